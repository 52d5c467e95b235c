"""Pretraining as a trainable kind: from structures to a backbone, and inputs that are refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc import load_pretraining
from mlff_calc.errors import DatasetError, MLFFError, OptionError, RecipeError, StructureError, UnknownElementError
from mlff_calc.networks import kind_of
from mlff_calc.training.pretraining.evaluate import CONSTANT, LEARNED, OWN, SHUFFLED
from mlff_calc.training.pretraining.example import EXAMPLE_PRETRAINING_RECIPE
from mlff_calc.training.pretraining.task import PretrainingTask
from mlff_calc.training.recipe import load_recipe, parse_recipe
from mlff_calc.training.run import TrainingResult, train

from ..children import Child
from .changes import with_changes

Mlff = Callable[..., subprocess.CompletedProcess[str]]
NAMES = ("CH3OH", "H2O", "CH3CH2OH", "H2CO")


def molecules(n: int, seed: int = 0, *, labelled: bool = True) -> list[Atoms]:
    """Distorted molecules, with energies and forces of a cheap method."""
    random, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = molecule(NAMES[k % len(NAMES)])
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        if labelled:
            atoms.calc = EMT()
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames


def recipe_of(folder: Path, frames: list[Atoms] | None = None, **changes: Any) -> dict[str, Any]:
    ase.io.write(folder / "frames.extxyz", molecules(40) if frames is None else frames, format="extxyz")
    recipe: dict[str, Any] = {
        "pretraining": {
            "backbone": {"name": "hegnn", "l_max": 1, "channels": 8, "n_layers": 1, "cutoff": 3.0},
            "objective": {"name": "georecon", "sigma_reconstruction": 0.3},
        },
        "data": {"train": "frames.extxyz", "split": {"valid": 8, "test": 12}},
        "optimizer": {"learning_rate": 0.01, "batch_size": 5, "max_epochs": 6, "ema_decay": None, "warmup_steps": 1},
        "trainer": {"device": "cpu"},
        "output": "run",
    }  # fmt: skip
    return with_changes(recipe, changes)


def run(folder: Path, frames: list[Atoms] | None = None, **changes: Any) -> TrainingResult:
    return train(parse_recipe(recipe_of(folder, frames, **changes), folder / "recipe.yaml"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """A short training by reconstruction, which tests only read."""
    return run(tmp_path_factory.mktemp("pretraining"))


def test_the_example_is_a_recipe() -> None:
    recipe = parse_recipe(yaml.safe_load(EXAMPLE_PRETRAINING_RECIPE), "example.yaml")
    assert type(recipe).__name__ == "PretrainingRecipe"


def test_a_run_writes_the_network_and_what_codes_are_worth(trained: TrainingResult) -> None:
    assert kind_of(trained.model) == "pretraining"
    found = json.loads((trained.folder / "evaluation.json").read_text())
    assert found["part"] == "test"
    assert found["structures"] == 12
    assert 0.1 < found["denoising"] < 1.1
    assert set(found["reconstruction"]) == {OWN, CONSTANT, SHUFFLED}
    assert found["reconstruction"][OWN] < 0.9
    assert len(set(found["reconstruction"].values())) == 3
    assert set(found["steepness"]) == {"codes", "pooled features"}
    assert 0.0 < found["steepness"]["codes"]["median"] <= found["steepness"]["codes"]["high"]
    assert set(found["probes"]) == {"the number of atoms", "the radius of gyration", "the energy beyond composition"}
    metrics = (trained.folder / "metrics.csv").read_text().splitlines()
    assert "valid_reconstruction_share" in metrics[0]
    assert "valid_denoising_share" in metrics[0]
    assert "reconstruction with exchanged codes" in (trained.model / "card.md").read_text()
    network = load_pretraining(trained.model)
    assert network.elements == [1, 6, 8]
    assert network.config["backbone"]["name"] == "hegnn"
    assert 1.0 < network.config["backbone"]["avg_num_neighbors"] < 8.0


@pytest.mark.parametrize(
    ("objective", "loss"),
    [
        ({"name": "denoising"}, {}),
        ({"name": "denoising", "noise": "fractional"}, {}),
        ({"name": "denoising", "noise": "bond_angle_torsion", "torsion": 0.5}, {}),
        ({"name": "georecon", "code": "constant"}, {"clean": 0.1}),
        ({"name": "georecon", "conditioning": "adaptive_norm", "width": 4, "pooling": "mean"}, {"denoising": 0.0}),
        ({"name": "supervised"}, {"energy": 1.0, "forces": 1.0}),
    ],
)
def test_objectives(tmp_path: Path, objective: dict[str, Any], loss: dict[str, float]) -> None:
    changes = {"pretraining__objective": objective, "loss": loss, "optimizer__max_epochs": 2}
    report = run(tmp_path, molecules(24), **changes, data__split={"valid": 4, "test": 10}).report
    if objective["name"] == "supervised":
        assert set(report.errors) == {"energies [meV/atom]", "forces [meV/Angstrom]"}
        assert report.denoising is None
    else:
        assert 0.0 < report.denoising < 2.0
    assert (LEARNED in report.reconstruction) == (objective.get("code") == "constant")
    assert ("codes" in report.steepness) == (objective["name"] == "georecon" and "code" not in objective)


def test_the_command_line_judges_alike_each_time(trained: TrainingResult, tmp_path: Path, mlff: Mlff) -> None:
    ase.io.write(tmp_path / "new.extxyz", molecules(11, seed=1, labelled=False), format="extxyz")
    told = [mlff("eval", str(trained.model), str(tmp_path / "new.extxyz"), "--json").stdout for _ in range(2)]
    assert told[0] == told[1]
    found = json.loads(told[0])
    assert found["structures"] == 11
    assert "the energy beyond composition" not in found["probes"]
    text = mlff("eval", str(trained.model), str(tmp_path / "new.extxyz"), "--index", ":3").stdout
    assert "pretraining (georecon), 3 structures" in text
    assert "reconstruction with constant code" in text
    with pytest.raises(OptionError, match="fine_tune_from"):
        PretrainingTask().predictor(str(trained.model), device="cpu", precision=None)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, child: Callable[..., Child]) -> None:
    """The process is killed as soon as it has written its first checkpoint, and the resumed run ends alike."""
    path = tmp_path / "recipe.yaml"
    changes = {"pretraining__objective": {"name": "georecon", "noise": "fractional"}, "optimizer__max_epochs": 5}
    path.write_text(yaml.safe_dump(recipe_of(tmp_path, molecules(24), **changes, data__split={"valid": 8})))
    whole = train(path, output=tmp_path / "whole")
    process = child(lambda: train(path, output=tmp_path / "parts"))
    end = time.monotonic() + 120.0
    while not (tmp_path / "parts" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = train(path, output=tmp_path / "parts", resume=True)
    one, other = weights(whole.folder), weights(again.folder)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert load_pretraining(whole.model).sha256 == load_pretraining(again.model).sha256


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pretraining__objective": {"name": "denoising", "pooling": "sum"}}, "`pooling` does not belong to name"),
        ({"pretraining__objective": {"name": "denoising", "torsion": 1.0}}, "`torsion` does not belong to noise: cartesian"),
        ({"pretraining__objective": {"name": "georecon", "decoder_layers": 0}}, "decoder_layers of objective 'georecon'"),
        ({"pretraining__objective": {"name": "supervised"}}, "give loss.energy, loss.forces or both"),
        ({"loss__forces": 1.0}, "loss.forces does not belong to pretraining.objective georecon"),
        ({"loss__reconstruction": 0.0}, "loss.reconstruction is 0"),
        ({"data__split": None}, "no validation frames"),
        ({"trainer__precision": "mixed"}, "trainer.precision is mixed"),
        ({"trainer__compile": True}, "trainer.compile is true"),
        ({"data__train": "absent.extxyz"}, "there is no file"),
    ],
)
def test_recipes_that_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        PretrainingTask().read(parse_recipe(recipe_of(tmp_path, **changes), tmp_path / "recipe.yaml"))


SUPERVISED = {"pretraining__objective": {"name": "supervised"}, "loss": {"energy": 1.0, "forces": 1.0}}
TURNED = {"pretraining__objective": {"name": "denoising", "noise": "fractional"}}


def with_frame(atoms: Atoms) -> list[Atoms]:
    return [*molecules(40), atoms]


def not_finite(what: str) -> list[Atoms]:
    frames = molecules(40)
    if what == "positions":
        frames[3].positions[0, 0] = float("nan")
    else:
        frames[3].calc.results[what] = np.asarray(frames[3].calc.results[what]) * float("nan")
    return frames


@pytest.mark.parametrize(
    ("frames", "changes", "error", "words"),
    [
        (lambda: not_finite("positions"), {}, StructureError, "frame 3: position of atom . is not finite"),
        (lambda: with_frame(Atoms("H")), {}, DatasetError, "frame 40 holds 1 atom, which has no shape to learn"),
        (lambda: with_frame(Atoms("H2", [[0, 0, 0], [0, 0, 1e-3]])), {}, StructureError, "frame 40: atoms 0 and 1 over"),
        (lambda: with_frame(bulk("C")), TURNED, DatasetError, "frame 40 is periodic, and the noise of bonds"),
        (lambda: not_finite("forces"), SUPERVISED, DatasetError, "frame 3: label 'forces' holds .* not finite"),
        (lambda: not_finite("energy"), SUPERVISED, DatasetError, "frame 3: label 'energy' holds .* not finite"),
        (lambda: molecules(40, labelled=False), SUPERVISED, RecipeError, "loss.energy is 1, but .* has no energy"),
    ],
)
def test_data_that_are_refused(
    tmp_path: Path, frames: Callable[[], list[Atoms]], changes: dict[str, Any], error: type[MLFFError], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(tmp_path, frames(), **changes)
    assert not (tmp_path / "run").exists()


def test_labels_that_are_not_finite_do_not_matter_where_none_are_learned(tmp_path: Path) -> None:
    result = run(tmp_path, not_finite("forces"), optimizer__max_epochs=1)
    assert result.report.structures == 12


def test_weights_of_frames_are_refused(tmp_path: Path) -> None:
    frames = molecules(40)
    for atoms in frames:
        atoms.info["config_weight"] = 2.0
    with pytest.raises(DatasetError, match="has weights of frames, and noise counts alike"):
        run(tmp_path, frames, loss__frame_weights=True)


@pytest.mark.parametrize(
    ("atoms", "error", "words"),
    [
        (molecule("NH3"), UnknownElementError, r"unknown element N \(atom 0 of .*, frame 2\)"),
        (Atoms("H"), DatasetError, "frame 2 holds 1 atom"),
        (Atoms("HH", [[0, 0, 0], [0, 0, np.nan]]), StructureError, "frame 2: position of atom . is not finite"),
    ],
)
def test_structures_that_cannot_be_judged(
    trained: TrainingResult, tmp_path: Path, atoms: Atoms, error: type[MLFFError], words: str
) -> None:
    ase.io.write(tmp_path / "new.extxyz", [*molecules(2, labelled=False), atoms], format="extxyz")
    with pytest.raises(error, match=words):
        PretrainingTask().evaluate(str(trained.model), [tmp_path / "new.extxyz"])


def test_a_copied_recipe_has_other_paths(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tmp_path)))
    assert load_recipe(path).with_paths(lambda old: f"there/{old}")["data"]["train"] == "there/frames.extxyz"
