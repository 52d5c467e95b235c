"""Networks for Fock matrices as a trainable kind: learning matrices, resuming, judging, and data that are refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
import yaml
from ase import Atoms

from mlff_calc.datasets.matrix_files import write_matrices
from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.electronic.hamiltonian import build_hamiltonian, load_hamiltonian
from mlff_calc.electronic.hamiltonian.predict import predict_fock
from mlff_calc.errors import DatasetError, PotentialFileError, RecipeError
from mlff_calc.networks import kind_of
from mlff_calc.training.data import Batch
from mlff_calc.training.hamiltonian.data import MatrixBatches, measure_scales, parts_of
from mlff_calc.training.hamiltonian.evaluate import evaluate_hamiltonian, orbitals_of
from mlff_calc.training.hamiltonian.example import EXAMPLE_HAMILTONIAN_RECIPE
from mlff_calc.training.hamiltonian.files import MatrixFrames, n_occupied, read_matrices
from mlff_calc.training.hamiltonian.objective import HamiltonianObjective
from mlff_calc.training.hamiltonian.recipe import MatrixLoss
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.run import train

from .changes import with_changes

Mlff = Callable[..., subprocess.CompletedProcess[str]]
BASIS = {"name": "tiny", "shells": {"1": [0], "8": [0, 0, 1]}}
NETWORK = {
    "l_max": 2, "channels": 4, "hidden": 6, "products": 2, "layers": 1, "scalars": 6, "n_basis": 6, "cutoff": 3.0,
    "pair_cutoff": 4.0,
}  # fmt: skip


SETTINGS = {"xc": "pbe", "basis": "tiny", "grid_level": 1}


def water_frames(n: int = 40) -> list[MatrixFrame]:
    """Distorted waters with matrices in a tiny basis, from networks with random weights."""
    rng = np.random.default_rng(0)
    mean = np.array([[0.0, 0.0, 0.06], [0.76, 0.0, -0.5], [-0.76, 0.0, -0.5]])
    frames = [Atoms("OH2", mean + 0.05 * rng.normal(size=(3, 3))) for _ in range(n)]
    teachers = [
        build_hamiltonian(NETWORK | {"basis": BASIS, "target": "means"}, seed=seed).to_precision("float64")
        for seed in (1, 2)
    ]
    pairs = zip(*(predict_fock(one, frames) for one in teachers), strict=True)
    made = []
    for k, (atoms, (fock, other)) in enumerate(zip(frames, pairs, strict=True)):
        fock = fock - 3.0 * np.eye(len(fock))
        overlap = scipy.linalg.expm(0.02 * other)
        made.append(MatrixFrame(atoms.numbers, atoms.positions, fock, overlap, fock + 0.3 * other, source=k))
    return made


def written(path: Path, frames: list[MatrixFrame] | None = None, **settings: Any) -> MatrixFrames:
    """Write frames to a file, and open it."""
    write_matrices(path, water_frames() if frames is None else frames, SETTINGS | settings, BASIS)
    return read_matrices(path)


def recipe_of(folder: Path, frames: list[MatrixFrame] | None = None, **changes: Any) -> dict[str, Any]:
    written(folder / "water.h5", frames)
    recipe: dict[str, Any] = {
        "hamiltonian": dict(NETWORK),
        "data": {"file": "water.h5", "split": {"train": 24, "valid": 8, "test": 8}},
        "optimizer": {"learning_rate": 0.01, "batch_size": 8, "max_epochs": 3, "ema_decay": None, "warmup_steps": 1},
        "trainer": {"device": "cpu"},
        "output": "run",
    }
    return with_changes(recipe, changes)


def run(folder: Path, frames: list[MatrixFrame] | None = None, **changes: Any) -> Any:
    return train(parse_recipe(recipe_of(folder, frames, **changes), folder / "recipe.yaml"))


def test_the_example_is_a_recipe() -> None:
    recipe = parse_recipe(yaml.safe_load(EXAMPLE_HAMILTONIAN_RECIPE), "example.yaml")
    assert type(recipe).__name__ == "HamiltonianRecipe"


def test_matrices_are_learnt(tmp_path: Path) -> None:
    result = run(tmp_path, optimizer__max_epochs=12, optimizer__batch_size=4, trainer__validate_every=12)
    assert kind_of(result.model) == "hamiltonian"
    errors = json.loads((result.folder / "evaluation.json").read_text())["errors"]
    assert errors["model"]["all"] < 0.4 * errors["initial"]["all"]
    assert errors["model"]["homo"] < 0.5 * errors["initial"]["homo"]
    assert set(errors["model"]["by_elements"]) == {"H", "O", "H-H", "H-O"}
    assert errors["model"]["cosine"] > errors["initial"]["cosine"]
    network = load_hamiltonian(result.model)
    assert network.settings.grid_level == 1
    assert network.config["basis"] == BASIS
    assert "one Fock build" in (result.model / "card.md").read_text()


@pytest.mark.parametrize(
    "changes",
    [
        {"hamiltonian__target": "means", "hamiltonian__inputs": ["overlap", "initial"]},
        {"hamiltonian__flow": {"prior": "goe", "steps": 2}},
        {"loss__orbital_energies": 1.0, "hamiltonian__target": "means", "trainer__precision": "float64"},
    ],
)
def test_other_targets_are_trained(tmp_path: Path, changes: dict[str, Any]) -> None:
    result = run(tmp_path, optimizer__max_epochs=2, **changes)
    model = result.report.errors["model"]
    assert np.isfinite(model.all)
    assert result.report.steps == (2 if "hamiltonian__flow" in changes else 0)


def test_a_run_that_was_killed_and_resumed_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: Callable[..., Any]
) -> None:
    flow = {"hamiltonian__flow": {"prior": "expansion"}}  # whose noise and times are drawn again
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole", **flow)

    recipe = parse_recipe(recipe_of(tmp_path / "parts", **flow), tmp_path / "parts" / "recipe.yaml")
    loss, calls = HamiltonianObjective.loss, []

    def dies(self: HamiltonianObjective, outputs: dict[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 6:  # in the second epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, outputs, batch)

    with monkeypatch.context() as patch:
        patch.setattr(HamiltonianObjective, "loss", dies)
        assert child(partial(train, recipe)).wait() == -signal.SIGKILL
    assert not (tmp_path / "parts" / "run" / "hamiltonian").exists()
    resumed = train(recipe, resume=True)
    ours, theirs = (load_hamiltonian(one.model).state_dict() for one in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_commands_train_and_judge(tmp_path: Path, mlff: Mlff) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_of(tmp_path, optimizer__max_epochs=1)))
    done = mlff("train", "recipe.yaml", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    judged = mlff("eval", "run/hamiltonian", "water.h5", "--part", "test", "--json", cwd=tmp_path)
    found = json.loads(judged.stdout)
    assert found["molecules"] == 8, judged.stderr
    assert found["errors"] == json.loads((tmp_path / "run" / "evaluation.json").read_text())["errors"]
    shown = mlff("eval", "run/hamiltonian", "water.h5", "--limit", "3", cwd=tmp_path)
    assert shown.stdout.startswith("3 molecules"), shown.stderr
    for words, said in ((["--part", "some"], "give train, valid, test or all"), (["water.h5"], "takes one file, not 2")):
        refused = mlff("eval", "run/hamiltonian", "water.h5", *words, cwd=tmp_path)
        assert refused.returncode == 1
        assert said in " ".join(refused.stderr.split())


def test_energies_of_orbitals_are_right_to_first_order(tmp_path: Path) -> None:
    frames = written(tmp_path / "water.h5", water_frames(4))
    network = build_hamiltonian(NETWORK | {"basis": BASIS}, seed=3).to_precision("float64")
    source = MatrixBatches(frames, network, orbitals=True).source()
    batch = source.batch(range(4), 0, torch.Generator())
    objective = HamiltonianObjective(MatrixLoss(mae=0.0, mse=1e-30, orbital_energies=1.0), network)
    small = 1e-6
    outputs = {name: label + small * torch.ones_like(label) for name, label in batch.labels.items() if "fock" in name}
    found = float(objective.loss(outputs, batch)) / small
    expected = []
    for frame in frames:
        moved = orbitals_of(frame.fock + small, frame.overlap).energies - orbitals_of(frame.fock, frame.overlap).energies
        expected += list(np.abs(moved[: n_occupied(frame) + 1]) / small)
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


def test_losses_are_means_over_molecules_and_skip_padding(tmp_path: Path) -> None:
    frames = written(tmp_path / "water.h5", water_frames(4))
    network = build_hamiltonian(NETWORK | {"basis": BASIS}, seed=3).to_precision("float64")
    batch = MatrixBatches(frames, network).source().batch(range(4), 0, torch.Generator())
    objective = HamiltonianObjective(MatrixLoss(mae=1.0, mse=0.0), network)
    with torch.no_grad():
        found = float(objective.loss(network(batch.graph), batch))
    predicted = predict_fock(network, [one.atoms for one in frames], initials=[one.initial for one in frames])
    expected = np.mean([np.abs(one - frame.fock).mean() for one, frame in zip(predicted, frames, strict=True)])
    assert found == pytest.approx(expected, rel=1e-10)
    assert evaluate_hamiltonian(network, frames).errors["model"].all == pytest.approx(expected, rel=1e-10)


def test_scales_are_invariant_and_measured(tmp_path: Path) -> None:
    frames = written(tmp_path / "water.h5", water_frames(20))
    network = build_hamiltonian(NETWORK | {"basis": BASIS, "inputs": ["overlap"]}, seed=3).to_precision("float64")
    measure_scales(network, frames)
    scales = network.scales.atom_scales[network.elements.index(8)]
    assert torch.equal(scales[2:, 2:], scales[2, 2].expand(3, 3))  # the p shell
    differences = np.array([one.fock - one.initial for one in frames])
    assert float(network.scales.atom_means[1, 0, 0]) == pytest.approx(differences[:, 0, 0].mean())
    assert float(scales[0, 0]) == pytest.approx(differences[:, 0, 0].std())
    assert not torch.equal(network.input_scales["overlap"].pair_scales, torch.ones(2, 2, 5, 5, dtype=torch.float64))


def test_fine_tuning_goes_on_from_trained_weights(tmp_path: Path) -> None:
    start = run(tmp_path, optimizer__max_epochs=4)
    before = start.report.errors["model"]
    (tmp_path / "near").symlink_to(start.model.parent)
    recipe = recipe_of(tmp_path, optimizer__learning_rate=1e-9, optimizer__max_epochs=1, loss__orbital_energies=2.0)
    recipe |= {"hamiltonian": {"fine_tune_from": "near/hamiltonian"}, "output": "tuned"}
    tuned = train(parse_recipe(recipe, tmp_path / "recipe.yaml"))
    assert tuned.report.errors["model"].all == pytest.approx(before.all, rel=1e-4)
    ours, theirs = (load_hamiltonian(one.model) for one in (tuned, start))
    assert ours.config == theirs.config
    assert torch.equal(ours.scales.atom_scales, theirs.scales.atom_scales)
    assert "Fine-tuned from near/hamiltonian" in (tuned.model / "card.md").read_text()
    kept = yaml.safe_load((tuned.folder / "recipe.yaml").read_text())
    assert kept["hamiltonian"] == {"fine_tune_from": str(tmp_path / "near" / "hamiltonian")}

    def refused(error: type[Exception], words: str, **section: Any) -> None:
        changed = recipe | {"hamiltonian": recipe["hamiltonian"] | section, "output": "refused"}
        with pytest.raises(error, match=words):
            train(parse_recipe(changed, tmp_path / "recipe.yaml"))
        assert not (tmp_path / "refused").exists()

    refused(RecipeError, "leave out channels", channels=8)
    refused(PotentialFileError, "no hamiltonian", fine_tune_from="lost")
    written(tmp_path / "water.h5", grid_level=3)
    refused(DatasetError, "of other levels: grid_level 1 and 3")
    written(tmp_path / "water.h5", [replace(one, charge=2) for one in water_frames()])
    refused(DatasetError, r"of the charges \[2\]")


def test_recipes_that_cannot_be_trained_are_refused(tmp_path: Path) -> None:
    for changes, words in (
        ({"hamiltonian__pair_cutoff": 2.0}, "raise it, or lower cutoff"),
        ({"hamiltonian__l_max": 0}, "l_max"),
        ({"loss__mae": 0.0, "loss__mse": 0.0}, "give one of them a weight"),
        ({"trainer__compile": True}, "not compiled"),
        ({"trainer__precision": "mixed"}, "float32 or float64"),
        ({"data__file": "none.h5"}, "there is no file"),
        ({"data__file": "."}, "there is no file"),
        ({"data__basis": "def2-svp"}, "another than data.xc and data.basis say: basis"),
        ({"data__order": "orca"}, "knows its order, ours"),
    ):
        with pytest.raises(RecipeError, match=words):
            run(tmp_path, **changes)


def test_data_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path, frames = tmp_path / "water.h5", water_frames(12)
    network = build_hamiltonian(NETWORK | {"basis": BASIS, "settings": SETTINGS}, seed=3)
    with pytest.raises(DatasetError, match="leaves none for the validation"):
        parts_of(written(path, frames), {"train": 11, "valid": 0, "test": 0, "seed": 0})
    with pytest.raises(DatasetError, match="of other levels: grid_level 1 and 3"):
        evaluate_hamiltonian(network, written(path, frames, grid_level=3))
    mixed = [replace(one, charge=k % 2 * 2) for k, one in enumerate(frames)]
    with pytest.raises(RecipeError, match=r"of the charges \[0, 2\]"):
        run(tmp_path, mixed, data__split={"train": 8, "valid": 4, "test": 0})
    other = {"name": "other", "shells": {"1": [0], "8": [0, 1, 0]}}
    write_matrices(path, frames, SETTINGS, other)
    with pytest.raises(DatasetError, match="give its own basis"):
        evaluate_hamiltonian(network, read_matrices(path))
    ammonia = [replace(one, numbers=np.array([7, 1, 1])) for one in frames]
    write_matrices(path, ammonia, SETTINGS, {"name": "tiny", "shells": {"1": [0], "7": [0, 0, 1]}})
    with pytest.raises(DatasetError, match=r"elements \[7\]"):
        evaluate_hamiltonian(network, read_matrices(path))


@pytest.mark.electronic
def test_matrices_of_other_programs_are_read(tmp_path: Path, data_dir: Path) -> None:
    """The order of orbitals is PySCF's, so that p shells are turned; there is no matrix of an initial density."""
    path = data_dir / "hamiltonian" / "water_1000_rhf_sto3g.npz"
    if not path.is_file():
        pytest.skip("there is no file of water in sto-3g")
    frames = read_matrices(path, settings={"xc": "hf", "basis": "sto-3g"})
    with np.load(path) as held:
        fock = held["fock"][3]
    assert frames.basis.shells_of(8) == (0, 0, 1)
    assert np.array_equal(frames[3].fock[2:5, 2:5], fock[[3, 4, 2]][:, [3, 4, 2]])
    for order, basis, words in (
        ("orca", "sto-3g", "but the overlap is in that of 'pyscf'"),
        ("pyscf", "sto-6g", "fits no known order of orbitals in basis sto-6g"),
        ("pyscf", "6-31g", "does not end in the 13 orbitals"),
    ):
        with pytest.raises(DatasetError, match=words):
            read_matrices(path, settings={"xc": "hf", "basis": basis}, order=order)
    recipe = recipe_of(tmp_path, data__file=str(path), data__xc="hf", data__basis="sto-3g")
    with pytest.raises(RecipeError, match="set target: means"):
        train(parse_recipe(recipe, tmp_path / "recipe.yaml"))
    recipe["hamiltonian"]["target"] = "means"
    recipe["optimizer"]["max_epochs"] = 1
    assert np.isfinite(train(parse_recipe(recipe, tmp_path / "recipe.yaml")).report.errors["model"].all)
