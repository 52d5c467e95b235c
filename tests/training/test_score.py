"""Score models as a trainable kind: from frames to structures, and inputs that are refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms, units
from ase.calculators.lj import LennardJones

from mlff_calc.bench.studies.model_clusters import CLUSTERS, lennard_jones
from mlff_calc.errors import DatasetError, OptionError, RecipeError
from mlff_calc.graph.domain import domain_of
from mlff_calc.networks import kind_of
from mlff_calc.potential import build_potential
from mlff_calc.score import load_score_model
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.run import train
from mlff_calc.training.score.data import Structures
from mlff_calc.training.score.evaluate import evaluate_score
from mlff_calc.training.score.example import EXAMPLE_SCORE_RECIPE

from .changes import with_changes

Mlff = Callable[..., subprocess.CompletedProcess[str]]
SPREAD = 0.4


def springs(n: int, spread: float = SPREAD, seed: int = 0) -> list[Atoms]:
    """Samples of exp(-|x|^2 / 2 D^2) of three atoms, kT = 1."""
    positions = spread * np.random.default_rng(seed).normal(size=(n, 3, 3))
    positions -= positions.mean(axis=1, keepdims=True)
    frames = []
    for place in positions:
        atoms = Atoms("Ar3", place)
        atoms.info["REF_energy"] = float(0.5 * (place**2).sum() / spread**2)
        atoms.arrays["REF_forces"] = -place / spread**2
        frames.append(atoms)
    return frames


def recipe_of(folder: Path, frames: list[Atoms] | None = None, **changes: Any) -> dict[str, Any]:
    ase.io.write(folder / "frames.extxyz", springs(300) if frames is None else frames, format="extxyz")
    recipe = {
        "score": {
            "backbone": {"name": "hegnn", "l_max": 1, "channels": 16, "n_layers": 1}, "kT": 1.0, "bonds": "none",
        },
        "data": {
            "train": "frames.extxyz", "keys": {"energy": "REF_energy", "forces": "REF_forces"},
            "split": {"valid": 40, "test": 40},
        },
        "optimizer": {"learning_rate": 0.01, "batch_size": 20, "max_epochs": 6, "ema_decay": None, "warmup_steps": 1},
        "trainer": {"device": "cpu"},
        "output": "run",
    }  # fmt: skip
    return with_changes(recipe, changes)


def run(folder: Path, frames: list[Atoms] | None = None, **changes: Any) -> Any:
    return train(parse_recipe(recipe_of(folder, frames, **changes), folder / "recipe.yaml"))


def test_the_example_is_a_recipe() -> None:
    recipe = parse_recipe(yaml.safe_load(EXAMPLE_SCORE_RECIPE), "example.yaml")
    assert type(recipe).__name__ == "ScoreRecipe"


@pytest.mark.parametrize("target", ["optimal", "piecewise", "dsm"])
def test_training_explains_the_target(tmp_path: Path, target: str) -> None:
    changes = {"loss__target": target} | ({"loss__anchor": 0.2} if target == "optimal" else {})
    result = run(tmp_path, **changes)
    assert kind_of(result.model) == "score"
    report = json.loads((result.folder / "evaluation.json").read_text())
    assert report["levels"][0] == 0.0
    if target != "dsm":
        assert report["unexplained"][0] < 0.1  # forces of normal data are -x / D^2, which the model begins with
    assert "a score model" in (result.model / "card.md").read_text()


def bonded(n: int) -> list[Atoms]:
    """Samples of exp(-U) with U = 1000 ((r_1 - 0.96)^2 + (r_2 - 0.96)^2) of two bonds of one atom, kT = 1."""
    random = np.random.default_rng(0)
    lengths = 0.96 + random.normal(size=20 * n) / 2000.0**0.5
    lengths = lengths[random.random(20 * n) < lengths**2 / 1.3][: 2 * n]
    ways = random.normal(size=(2 * n, 3))
    arms = (lengths[:, None] * ways / np.linalg.norm(ways, axis=1, keepdims=True)).reshape(n, 2, 3)
    frames = []
    for pair in arms:
        long = np.linalg.norm(pair, axis=1, keepdims=True)
        pull = -2000.0 * (long - 0.96) * pair / long
        atoms = Atoms("OH2", np.concatenate([np.zeros((1, 3)), pair]))
        atoms.info["REF_energy"] = float(1000.0 * ((long - 0.96) ** 2).sum())
        atoms.arrays["REF_forces"] = np.concatenate([-pull.sum(axis=0, keepdims=True), pull])
        frames.append(atoms)
    return frames


def test_the_directional_target_learns_bonds_from_forces(tmp_path: Path) -> None:
    changes = {"score__bonds": "auto", "optimizer__max_epochs": 20}
    found = {}
    for target in ("directional", "optimal"):
        (tmp_path / target).mkdir()
        result = run(tmp_path / target, bonded(300), loss__target=target, **changes)
        found[target] = json.loads((result.folder / "evaluation.json").read_text())["unexplained"]
    model = load_score_model(result.folder.parent.parent / "directional" / "run" / "score")
    assert model.target.stiffness is not None
    springs_of = {(i, j): k for i, j, k in model.target.stiffness.springs}
    assert springs_of[(0, 1)] == springs_of[(0, 2)] == pytest.approx(2000.0, rel=0.02)
    assert found["directional"][3] < 0.5 * found["optimal"][3]  # noise of about 1/sqrt(I), where the targets differ most
    with pytest.raises(RecipeError, match=r"directional reads the stiffness of bonds, and the structures have none"):
        run(tmp_path, loss__target="directional")


def test_commands_train_judge_draw_and_compare(
    tmp_path: Path, mlff: Mlff, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_of(tmp_path)))
    done = mlff("train", "recipe.yaml", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    judged = mlff("eval", "run/score", "frames.extxyz", "--key", "forces=REF_forces", "--json", cwd=tmp_path)
    assert json.loads(judged.stdout)["frames"] == 300, judged.stderr
    bare = mlff("eval", "run/score", "frames.extxyz", cwd=tmp_path)
    assert bare.returncode == 1
    assert "300 of 300 frames have no forces" in " ".join(bare.stderr.split())
    (tmp_path / "springs_of_tests.py").write_text(
        "from ase.calculators.calculator import Calculator, all_changes\n"
        "class Springs(Calculator):\n"
        "    implemented_properties = ['energy', 'forces']\n"
        "    def calculate(self, atoms=None, properties=('energy',), system_changes=all_changes):\n"
        "        super().calculate(atoms, properties, system_changes)\n"
        "        x = atoms.positions - atoms.positions.mean(axis=0)\n"
        f"        self.results = {{'energy': 0.5 * (x**2).sum() / {SPREAD}**2, 'forces': -x / {SPREAD}**2}}\n"
    )
    words = ["sample", "run/score", "-n", "40", "--steps", "40", "-o", "drawn.extxyz", "--report", "report.json", "-q"]
    monkeypatch.syspath_prepend(tmp_path)
    drawn = mlff(*words, "-c", "springs_of_tests:Springs", "--exact", "3", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["structures"] == 40
    assert 1.0 <= report["effective number of samples"] <= 40.0
    assert report["calls of the calculator"] == 160
    frames = ase.io.read(tmp_path / "drawn.extxyz", ":")
    assert sum(atoms.info["weight"] for atoms in frames) == pytest.approx(1.0, abs=1e-6)
    again = mlff(*words, cwd=tmp_path)
    assert again.returncode == 1
    assert "drawn.extxyz would be replaced" in " ".join(again.stderr.split())
    table = mlff("compare", "frames.extxyz", "drawn.extxyz", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    assert "distances" in table.stdout
    assert "effective number" in table.stdout
    assert mlff("compare", "frames.extxyz", "nowhere.xyz", cwd=tmp_path).returncode == 1
    (tmp_path / "one.sdf").touch()
    mixed = mlff("compare", "one.sdf", "frames.extxyz", cwd=tmp_path)
    assert "give two such files, or none" in " ".join(mixed.stderr.split())
    cold = mlff("compare", "frames.extxyz", "drawn.extxyz", "--temperature", "-5", cwd=tmp_path)
    assert "temperature is -5; give a positive number" in " ".join(cold.stderr.split())
    plain = mlff("sample", "run/score", "-n", "4", "--steps", "5", "-o", "plain.extxyz", "-q", cwd=tmp_path)
    assert "--calculator gives each structure a weight" in " ".join(plain.stdout.split())
    unweighed = mlff("sample", "run/score", "-c", "springs_of_tests:Springs", "--langevin", "2", "-n", "4", "--steps", "5",
                     "-o", "unweighed.extxyz", "-q", cwd=tmp_path)  # fmt: skip
    assert "leave out --langevin" in " ".join(unweighed.stdout.split())
    for wrong, words in (("steps with exact forces need a calculator", ["--exact", "5"]), ("is not a score", [])):
        place = "run/score" if words else "."
        refused = mlff("sample", place, "-n", "4", *words, "-o", "x.extxyz", "-q", cwd=tmp_path)
        assert refused.returncode == 1, refused.stderr
        assert wrong in " ".join(refused.stderr.split())
    absent = " ".join(mlff("sample", "absent", "-n", "4", cwd=tmp_path).stderr.split())
    assert "no score 'absent': there is no such folder, and what ships is nothing" in absent


def test_drawing_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlff_calc.sampling import model_samples

    result = run(tmp_path, optimizer__max_epochs=1)
    monkeypatch.setattr(model_samples, "CHUNK", 8)
    whole = model_samples.sample_model(result.model, n=20, steps=5)

    class Stop(Exception):  # noqa: N818
        pass

    def stop(what: str, done: int, total: int) -> None:
        if done >= 16:
            raise Stop

    with pytest.raises(Stop):
        model_samples.sample_model(result.model, n=20, steps=5, folder=tmp_path / "work", on_progress=stop)
    assert len(list((tmp_path / "work").iterdir())) == 2
    resumed = model_samples.sample_model(result.model, n=20, steps=5, folder=tmp_path / "work")
    assert np.array_equal(resumed.positions, whole.positions)
    some = model_samples.sample_model(result.model, n=11, steps=5)  # the first ones do not depend on how many there are
    assert some.positions == pytest.approx(whole.positions[:11], abs=1e-3)


def test_structures_that_a_potential_never_saw_are_told(tmp_path: Path) -> None:
    from mlff_calc.sampling import sample_model

    result = run(tmp_path, optimizer__max_epochs=1)
    backbone = {"name": "equiformer", "channels": 8, "n_layers": 1, "cutoff": 4.0}
    potential = build_potential({"backbone": backbone, "elements": ["Ar"], "scale": 0.1}, seed=0)
    potential.domain = domain_of([Atoms("Ar2", [(0, 0, 0), (0, 0, 9.0)])], 4.0)
    text = sample_model(result.model, potential, n=2, steps=4).as_text()
    assert "The potential was not trained on such structures (the formula Ar3 was not in the training data" in text
    assert "of 2 structures are outside" in text
    potential.domain = None
    assert "not trained" not in sample_model(result.model, potential, n=2, steps=4).as_text()


def test_charge_and_spin_reach_the_calculator_or_are_refused(tmp_path: Path) -> None:
    from mlff_calc.sampling import sample_model

    result = run(tmp_path, optimizer__max_epochs=1)
    with pytest.raises(OptionError, match="are of a calculator"):
        sample_model(result.model, charge=1)
    with pytest.raises(OptionError, match="the multiplicity is 0"):
        sample_model(result.model, LennardJones, n=2, steps=4, multiplicity=0)
    told: list[tuple[int, int]] = []

    class Listening(LennardJones):  # type: ignore[misc]
        def calculate(self, atoms: Any = None, *args: Any, **kwargs: Any) -> None:
            told.append((atoms.info["charge"], atoms.info["spin"]))
            super().calculate(atoms, *args, **kwargs)

    sample_model(result.model, Listening, n=2, steps=4, charge=1, multiplicity=2)
    assert told == [(1, 2)] * 2
    pytest.importorskip("tblite")
    with pytest.raises(OptionError, match="Ar3 with a charge of 1 e has 53 electrons, which do not fit a multiplicity of 1"):
        sample_model(result.model, "gfn2-xtb", n=2, steps=4, charge=1)


def test_the_clip_of_training_is_that_of_judgement(tmp_path: Path) -> None:
    clipped = load_score_model(run(tmp_path, optimizer__max_epochs=2, loss__clip=1.0).model)
    assert clipped.clip == 1.0
    positions = np.stack([atoms.positions for atoms in springs(40)])
    frames = Structures(np.full(3, 18), positions, -positions / SPREAD**2)
    judged = evaluate_score(clipped, frames).unexplained[0]
    norms = np.linalg.norm(frames.forces.reshape(40, -1), axis=1)
    short = Structures(frames.numbers, positions, frames.forces / np.maximum(norms, 1.0)[:, None, None])
    clipped.clip = None
    assert judged == pytest.approx(evaluate_score(clipped, short).unexplained[0])
    assert judged != pytest.approx(evaluate_score(clipped, frames).unexplained[0], rel=0.1)


def test_frames_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="temperature, unit or sign of the forces do not match"):
        run(tmp_path, score__kT=units.kB * 300.0)
    frozen = springs(300)
    for atoms in frozen:
        atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, 1.0]
    with pytest.raises(DatasetError, match="frames with frozen bonds"):
        run(tmp_path, frozen)
    mixed = springs(300)
    mixed[7] = Atoms("Ar4", np.random.default_rng(0).normal(size=(4, 3)))
    mixed[7].arrays["REF_forces"] = np.zeros((4, 3))
    with pytest.raises(DatasetError, match="a score model knows one molecule"):
        run(tmp_path, mixed)
    periodic = springs(300)
    for atoms in periodic:
        atoms.set_cell([9.0, 9.0, 9.0])
        atoms.pbc = True
    with pytest.raises(DatasetError, match="turn pbc off"):
        run(tmp_path, periodic)
    without = springs(300)
    for atoms in without:
        del atoms.arrays["REF_forces"]
    with pytest.raises(RecipeError, match=r"loss.forces is 1, but no forces are|has no forces under the key"):
        run(tmp_path, without, data__keys={})
    some = springs(300)
    for atoms in some[::2]:
        del atoms.arrays["REF_forces"]
    with pytest.raises(DatasetError, match=r"have no forces, from which the target optimal learns; the first is .*frame"):
        run(tmp_path, some)
    heavy = springs(300)
    heavy[3].info["config_weight"] = 2.0
    with pytest.raises(DatasetError, match="a score model learns all frames alike"):
        run(tmp_path, heavy)
    assert not (tmp_path / "run").exists()
    assert run(tmp_path, heavy, loss__frame_weights=False, optimizer__max_epochs=1).model.is_dir()


def test_flat_frames_are_told(tmp_path: Path) -> None:
    flat = springs(300)
    for atoms in flat:
        atoms.positions[:, 2] = 0.0
        atoms.arrays["REF_forces"][:, 2] = 0.0
    result = run(tmp_path, flat, optimizer__max_epochs=1)
    assert any("the model is one of two dimensions" in note for note in result.notes)


def test_model_clusters_have_the_forces_of_their_energies() -> None:
    for cluster in CLUSTERS.values():
        positions = 1.5 * np.random.default_rng(0).normal(size=(2, cluster.n_atoms, 3))
        _, forces = cluster.energy(positions)
        step = np.zeros_like(positions)
        step[:, 1, 0] = 1e-5
        slope = (cluster.energy(positions + step)[0] - cluster.energy(positions - step)[0]) / 2e-5
        assert np.allclose(slope, -forces[:, 1, 0], rtol=1e-6, atol=1e-6)
    pair = np.array([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    assert lennard_jones(pair)[0][0] == pytest.approx(-2.0 + 0.25)
