"""Rollouts as a trainable kind: from a trajectory to predictions, resuming, and inputs that are refused."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from mlff_calc import MLFFCalculator
from mlff_calc.bench.studies.rollout_arms import RolloutStudy, summary
from mlff_calc.datasets.motion.windows import read_run, split_run
from mlff_calc.errors import DatasetError, IntegrationError, RecipeError, StructureError, TrainingError
from mlff_calc.networks import kind_of, read_header, shipped_folder
from mlff_calc.potential import build_potential
from mlff_calc.rollout import build_rollout, load_rollout, trajectories
from mlff_calc.rollout.model import rollout_graph
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.rollout.baselines import OwnDynamics, States, forces_of
from mlff_calc.training.rollout.data import molecule_of
from mlff_calc.training.rollout.evaluate import calibrate, evaluate_rollout
from mlff_calc.training.rollout.example import EXAMPLE_ROLLOUT_RECIPE
from mlff_calc.training.rollout.measure import mean_structure, measure
from mlff_calc.training.rollout.objective import RolloutObjective
from mlff_calc.training.run import train

from .changes import with_changes

Mlff = Callable[..., subprocess.CompletedProcess[str]]


def spring_run(n_frames: int = 1500, timestep: float = 0.5, seed: int = 0, *, velocities: bool = True) -> dict[str, Any]:
    """Arrays of a trajectory of water-like atoms on springs, which turns."""
    random = np.random.default_rng(seed)
    mean = np.array([[0.0, 0.0, 0.06], [0.76, 0.0, -0.5], [-0.76, 0.0, -0.5]])
    masses = np.array([16.0, 1.0, 1.0])
    pairs = [(0, 1, 45.0), (0, 2, 45.0), (1, 2, 10.0)]
    rest = [np.linalg.norm(mean[i] - mean[j]) for i, j, _ in pairs]
    scale = 0.00964853  # (eV/Angstrom)/amu in Angstrom/fs^2
    x, v = mean + 0.03 * random.normal(size=(3, 3)), 0.02 * random.normal(size=(3, 3)) / np.sqrt(masses)[:, None]

    def acceleration(x: np.ndarray) -> np.ndarray:
        force = np.zeros((3, 3))
        for (i, j, k), length in zip(pairs, rest, strict=True):
            r = x[i] - x[j]
            d = np.linalg.norm(r)
            force[i] -= k * (d - length) * r / d
            force[j] += k * (d - length) * r / d
        return scale * force / masses[:, None]

    places, speeds = [], []
    a = acceleration(x)
    for _ in range(n_frames):
        places.append(x.copy())
        speeds.append(v.copy())
        v = v + 0.5 * timestep * a
        x = x + timestep * v
        a = acceleration(x)
        v = v + 0.5 * timestep * a
    arrays = {"R": np.array(places), "z": np.array([8, 1, 1]), "timestep_fs": np.asarray(timestep)}
    return arrays | ({"V": np.array(speeds), "v_unit": np.asarray("Angstrom/fs")} if velocities else {})


def recipe_of(folder: Path, arrays: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    np.savez(folder / "water.npz", **(spring_run() if arrays is None else arrays))
    recipe: dict[str, Any] = {
        "rollout": {
            "backbone": {"name": "hegnn", "l_max": 1, "channels": 8, "n_layers": 1}, "vectors": 3, "scalars": 6, "width": 8,
        },
        "data": {
            "file": "water.npz", "horizon": 20.0, "times": {"irregular": 4}, "limit": {"train": 30, "valid": 10, "test": 20},
        },
        "optimizer": {"learning_rate": 0.003, "batch_size": 15, "max_epochs": 2, "ema_decay": None, "warmup_steps": 1},
        "trainer": {"device": "cpu"},
        "output": "run",
    }  # fmt: skip
    return with_changes(recipe, changes)


def run(folder: Path, arrays: dict[str, Any] | None = None, **changes: Any) -> Any:
    return train(parse_recipe(recipe_of(folder, arrays, **changes), folder / "recipe.yaml"))


def test_the_example_is_a_recipe() -> None:
    recipe = parse_recipe(yaml.safe_load(EXAMPLE_ROLLOUT_RECIPE), "example.yaml")
    assert type(recipe).__name__ == "RolloutRecipe"


def test_springs_are_predicted_better_than_by_a_rotor(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert kind_of(result.model) == "rollout"
    errors = json.loads((result.folder / "evaluation.json").read_text())["errors"]
    assert errors["rollout"]["mse"] < 0.2 * errors["rotor of the mean structure"]["mse"]
    assert errors["rotor of the mean structure"]["mse"] < errors["last position"]["mse"]
    assert errors["valence base alone"]["mse"] < 1e-3 * errors["rotor of the mean structure"]["mse"]  # springs are its terms
    assert errors["rollout"]["bonds"] < 0.5 * errors["rotor of the mean structure"]["bonds"]
    rollout = load_rollout(result.model)
    assert float(rollout.temperature) != 1.0
    assert "a rollout" in (result.model / "card.md").read_text()


@pytest.mark.parametrize("base", ["harmonic", "rotor", "none"])
def test_other_bases_are_trained(tmp_path: Path, base: str) -> None:
    result = run(tmp_path, rollout__base=base, optimizer__max_epochs=1, data__times={"regular": 4}, data__heavy_atoms=False)
    errors = result.report.errors
    assert np.isfinite(errors["rollout"].mse)
    if base == "harmonic":
        assert errors["harmonic base alone"].mse < 0.2 * errors["rotor of the mean structure"].mse


def test_frames_far_apart_have_no_accelerations(tmp_path: Path) -> None:
    arrays = spring_run(3000)
    thin = {name: arrays[name][::4] for name in ("R", "V")} | {"z": arrays["z"], "v_unit": arrays["v_unit"]}
    thin["timestep_fs"] = np.asarray(2.0)
    with pytest.raises(DatasetError, match=r"frames of .* are 2 fs apart, and the base `valence` takes accelerations"):
        run(tmp_path, thin, rollout__base="valence")
    assert not (tmp_path / "run").exists()
    assert load_rollout(run(tmp_path, thin, optimizer__max_epochs=1).model).config["base"] == "harmonic"


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole")

    class Killed(Exception):  # noqa: N818
        pass

    recipe = parse_recipe(recipe_of(tmp_path / "parts"), tmp_path / "parts" / "recipe.yaml")
    loss, calls = RolloutObjective.loss, []

    def dies(self: RolloutObjective, outputs: dict[str, torch.Tensor], batch: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 5:  # in the second epoch
            raise Killed
        return loss(self, outputs, batch)

    with monkeypatch.context() as patch:
        patch.setattr(RolloutObjective, "loss", dies)
        with pytest.raises((Killed, TrainingError)):
            train(recipe)
    resumed = train(recipe, resume=True)
    ours, theirs = (load_rollout(one.model).state_dict() for one in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_commands_train_judge_and_roll_out(tmp_path: Path, mlff: Mlff) -> None:
    arrays = spring_run()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_of(tmp_path, arrays)))
    done = mlff("train", "recipe.yaml", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    judged = mlff("eval", "run/rollout", "water.npz", "--limit", "7", "--json", cwd=tmp_path)
    assert json.loads(judged.stdout)["windows"] == 7, judged.stderr
    atoms = Atoms("OH2", arrays["R"][1200])
    atoms.set_velocities(arrays["V"][1200] / units.fs)
    ase.io.write(tmp_path / "start.extxyz", atoms)
    words = ["rollout", "run/rollout", "start.extxyz", "-q"]
    drawn = mlff(*words, "--times", "5,10,20fs", "-o", "out.extxyz", "--reference", "water.npz", "--reference-start", "1200",
                 "--picture", "out.png", cwd=tmp_path)  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    frames = ase.io.read(tmp_path / "out.extxyz", ":")
    assert [frame.info["time"] for frame in frames] == [5.0, 10.0, 20.0]
    assert frames[0].arrays["sigma"].shape == (3,)
    assert np.abs(frames[1].positions - arrays["R"][1220]).max() < 0.1
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    chained = mlff(*words, "--times", "10:50:10", "-o", "long.extxyz", "--chain", cwd=tmp_path)
    assert chained.returncode == 0, chained.stderr
    assert "errors add up" in " ".join(chained.stderr.split())
    for more, said in (
        (["--times", "5,40", "-o", "new.extxyz"], "lie beyond the 20 fs"),
        (["--times", "5", "-o", "out.extxyz"], "would be replaced"),
        (["--times", "5,x", "-o", "new.extxyz"], "'x'"), (["--times", "5", "-o", "new.xyz"], "are written as .extxyz"),
        (["--times", "1:inf:1", "-o", "new.extxyz"], "give first:last:step"),
        (["--times", "nan:5:1", "-o", "new.extxyz"], "give first:last:step"),
        (["--times", "1:1e14:1", "-o", "new.extxyz"], "100000 are the most"),
        (["--times", "5", "-o", "new.extxyz", "--reference", "nowhere.npz"], "nowhere.npz"),
        (["--times", "5", "-o", "new.extxyz", "--picture", "new.jpg"], "pictures are written as .png"),
        (["--times", "5", "-o", "new.extxyz", "--reference", "water.npz"], "frame 1200 is nearest"),
    ):  # fmt: skip
        refused = mlff(*words, *more, cwd=tmp_path)
        assert refused.returncode == 1, refused.stderr
        assert said in " ".join(refused.stderr.split())
    assert not (tmp_path / "new.extxyz").exists()
    fine = mlff(*words, "--times", "0.1:20:0.1", "-o", "fine.extxyz", cwd=tmp_path)
    assert fine.returncode == 0, fine.stderr
    ase.io.write(tmp_path / "water.extxyz", atoms)
    other = mlff("rollout", "run/rollout", str(tmp_path / "recipe.yaml"), "--times", "5", "-o", "new.extxyz", cwd=tmp_path)
    assert other.returncode == 1


def test_arms_are_trained_and_kept(tmp_path: Path, mlff: Mlff) -> None:
    np.savez(tmp_path / "water.npz", **spring_run(900))
    arms = "rotor; EGNN one-shot; rotor, regular times"
    words = ["bench", "rollout", "water.npz", "--arms", arms, "--horizons", "20", "--seeds", "1",
             "--epochs", "1", "--starts", "20", "-o", "made", "--json", "-"]  # fmt: skip
    done = mlff(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {row["arm"]: row for row in json.loads(done.stdout)["summary"]}
    assert found["rotor"]["mse"] < found["last position"]["mse"]
    assert {"EGNN one-shot", "rotor of the mean structure", "constant velocity"} <= found.keys()
    made = (tmp_path / "made" / "20-0-rotor" / "run.json").stat().st_mtime_ns
    assert json.loads(mlff(*words, cwd=tmp_path).stdout)["summary"] == json.loads(done.stdout)["summary"]
    assert (tmp_path / "made" / "20-0-rotor" / "run.json").stat().st_mtime_ns == made
    changed = mlff(*words, "--epochs", "2", cwd=tmp_path)
    assert changed.returncode == 1
    assert "choose another --output" in " ".join(changed.stderr.split())
    folders = (tmp_path / "made" / name for name in ("20-0-rotor_regular_times", "20-0-rotor"))
    regular, own = (json.loads((folder / "result.json").read_text()) for folder in folders)
    assert regular["errors"]["last position"] == own["errors"]["last position"]  # judged at the same times
    # A kill between the training and its result, a damaged result, and the beginning of a run.
    (folder := tmp_path / "made" / "20-0-rotor").joinpath("result.json").unlink()
    (tmp_path / "made" / "20-0-rotor_regular_times" / "result.json").write_text("{")
    shutil.rmtree(tmp_path / "made" / "20-0-EGNN_one-shot")
    (tmp_path / "made" / "20-0-EGNN_one-shot" / "checkpoints").mkdir(parents=True)
    again = {row["arm"]: row["mse"] for row in json.loads(mlff(*words, cwd=tmp_path).stdout)["summary"]}
    assert all(again[arm] == pytest.approx(row["mse"], rel=1e-5) for arm, row in found.items())
    assert (folder / "run.json").stat().st_mtime_ns == made
    kept = json.loads((folder / "result.json").read_text())
    assert kept["recipe"]["rollout"]["base"] == "rotor"
    (folder / "result.json").write_text(json.dumps(kept | {"failed": "failed by hand"}))
    shown = mlff(*words[:-2], cwd=tmp_path)
    assert "rotor, 20 fs, seed 0 failed: failed by hand" in shown.stdout
    kept["recipe"]["rollout"]["width"] = 5
    (folder / "result.json").write_text(json.dumps(kept))
    other = mlff(*words, cwd=tmp_path)
    assert "was made with another recipe than now asked for" in " ".join(other.stderr.split())
    nowhere = mlff("bench", "rollout", "nowhere.npz", "-o", "other", cwd=tmp_path)
    assert "there is no file nowhere.npz" in " ".join(nowhere.stderr.split())
    assert not (tmp_path / "other").exists()
    unknown = mlff("bench", "rollout", "water.npz", "--arms", "rotors", "-o", "other", cwd=tmp_path)
    assert "unknown arm 'rotors'" in " ".join(unknown.stderr.split())


def test_an_arm_that_fails_does_not_end_the_study(tmp_path: Path) -> None:
    arrays = spring_run(3000)
    thin = {name: arrays[name][::4] for name in ("R", "V")} | {"z": arrays["z"], "v_unit": arrays["v_unit"]}
    np.savez(tmp_path / "water.npz", **thin, timestep_fs=np.asarray(2.0))
    study = RolloutStudy(tmp_path / "water.npz", tmp_path / "made", [20.0], ["valence", "rotor"], [0], epochs=1, starts=20)
    rows = study.run()
    assert "takes accelerations" in rows[0]["failed"]
    found = {row["arm"]: row for row in summary(rows)}
    assert found["valence"]["mse"] == found["valence"]["worst"] == "-"
    assert found["rotor"]["mse"] < found["last position"]["mse"]
    assert study.run() == rows


def test_solves_that_fail_name_the_window(tmp_path: Path) -> None:
    solver = {"name": "rk4", "step": 1e-3, "max_steps": 2}
    with pytest.raises(TrainingError, match=r"the solve stands at time 0 fs and .* in the batch of .*water\.npz, 40"):
        run(tmp_path, rollout__solver=solver, rollout__base="rotor", optimizer__max_epochs=1)
    windows = split_run(read_run(tmp_path / "water.npz"), 20.0, {"test": 3})["test"]
    config = {
        "backbone": {"name": "hegnn", "l_max": 1, "channels": 4, "n_layers": 1, "cutoff": 4.0}, "numbers": [8, 1, 1],
        "bonds": [[0, 1], [0, 2]], "masses": [16.0, 1.0, 1.0], "horizon": 20.0, "base": "start", "solver": solver,
    }  # fmt: skip
    rollout = build_rollout(config, seed=0)
    for judge in (evaluate_rollout, calibrate):
        with pytest.raises(IntegrationError, match=r"the solve of .*water\.npz, 40 frames from \d+ on stands at"):
            judge(rollout, windows)


def test_propagators_learn_several_times_on_the_same_windows(tmp_path: Path, mlff: Mlff) -> None:
    np.savez(tmp_path / "water.npz", **spring_run())
    words = ["bench", "rollout", "water.npz", "--horizons", "20", "--seeds", "1", "--epochs", "1", "--starts", "20"]
    done = mlff(*words, "--arms", "EGNN propagator", "-o", "made", "--json", "rows.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == ["EGNN propagator"]
    folder = tmp_path / "made" / "20-0-EGNN_propagator" / "propagator"
    reading = read_header(folder)["provenance"]["reading"]
    assert (reading["n_times"], reading["irregular"], reading["horizon"]) == (8, True, 40)
    # The same windows, read by `mlff eval` as in the training.
    report = json.loads(mlff("eval", folder, "water.npz", "--limit", "400", "--json", cwd=tmp_path).stdout)
    assert report["errors"]["propagator"]["positions"]["mse"] == pytest.approx(rows[0]["mse"], rel=1e-4)
    assert report["samples"] == 8 * len(split_run(read_run(tmp_path / "water.npz"), 20.0, {"test": 400})["test"])


def test_rollouts_stand_beside_dynamics_of_a_potential(tmp_path: Path, mlff: Mlff) -> None:
    run(tmp_path, optimizer__max_epochs=1)
    config = {"backbone": {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 4, "n_layers": 1}, "elements": ["H", "O"]}
    build_potential(config, seed=0).save(tmp_path / "potential")
    words = ["bench", "trajectories", "run/rollout", "water.npz", "--calculator", "potential"]
    done = mlff(*words, "--counts", "0", "--starts", "4", "--times", "5,30", "--json", "rows.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {row["row"]: row for row in json.loads((tmp_path / "rows.json").read_text())["errors"]}
    assert [*rows] == ["rollout", "MD with potential", "first frame", "unrelated frame"]
    assert rows["rollout"]["5"] < rows["rollout"]["30"]
    arrays = spring_run()  # a thermostat moves the centre
    drift = 1e-4 * np.arange(len(arrays["R"]))[:, None, None] ** 1.5
    np.savez(tmp_path / "water.npz", **arrays | {"R": arrays["R"] + drift})
    mlff(*words, "--counts", "0", "--starts", "4", "--times", "5,30", "--json", "moved.json", cwd=tmp_path)
    moved = {row["row"]: row for row in json.loads((tmp_path / "moved.json").read_text())["errors"]}
    assert all(moved[name]["30"] == pytest.approx(rows[name]["30"], rel=1e-3) for name in rows)
    assert rows["rollout"]["5"] < 0.3 * rows["first frame"]["5"]
    evaluated = mlff("eval", "run/rollout", "water.npz", "--calculator", "potential", "--limit", "3", cwd=tmp_path)
    assert "MD with potential" in evaluated.stdout
    assert "in batches of 3" in evaluated.stdout
    for change, message in (
        (["--times", "500"], "do not fit into the test part"), (["--calculator", "nowhere"], "no potential 'nowhere'"),
    ):  # fmt: skip
        refused = mlff(*words, "--counts", "0", *change, cwd=tmp_path)
        assert refused.returncode == 1
        assert message in " ".join(refused.stderr.split())


def test_own_dynamics_are_those_of_ase(tmp_path: Path) -> None:
    config = {"backbone": {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 4, "n_layers": 1}, "elements": ["H", "O"]}
    build_potential(config, seed=0).save(tmp_path / "potential")
    arrays = spring_run(20)
    x, v = (torch.from_numpy(arrays[name][[0, 10]]) for name in ("R", "V"))
    masses = torch.tensor([15.999, 1.008, 1.008], dtype=torch.float64)
    times = torch.tensor([[3.0, 20.0], [10.0, 20.0]], dtype=torch.float64)
    own = OwnDynamics(forces_of(tmp_path / "potential", [8, 1, 1]), 20.0)
    found = own(States(x, v, times), masses)
    assert own.steps == 2 * 40
    early = own(States(x[:1], v[:1], times[:1, :1] + 0.1), masses)  # steps are those of the horizon
    late = own(States(x[:1], v[:1], torch.tensor([[3.1, 20.0]], dtype=torch.float64)), masses)
    assert torch.equal(early.x[:, 0], late.x[:, 0])
    for number in range(2):
        atoms = Atoms("OH2", x[number].numpy(), masses=masses.numpy())
        atoms.set_velocities(v[number].numpy() / units.fs)
        atoms.calc = MLFFCalculator(tmp_path / "potential", device="cpu")
        VelocityVerlet(atoms, 0.5 * units.fs).run(40)
        assert np.abs(found.x[number, 1].numpy() - atoms.positions).max() < 1e-5
        assert np.abs(found.v[number, 1].numpy() - atoms.get_velocities() * units.fs).max() < 1e-6


def test_what_ships_follows_the_dynamics_it_learnt(mlff: Mlff, tmp_path: Path) -> None:
    TBLite = pytest.importorskip("tblite.ase").TBLite
    folder = shipped_folder() / "ethanol_rollout"
    first, rollout = ase.io.read(folder / "example.extxyz"), load_rollout(folder)
    found = rollout.trajectory(first, np.arange(5.0, 101.0, 5.0))
    md, places = first.copy(), []
    md.calc = TBLite(method="GFN2-xTB", verbosity=0)
    run = VelocityVerlet(md, 0.5 * units.fs)
    run.attach(lambda: places.append(md.positions.copy()), interval=10)
    run.run(200)
    wrong = found.positions - np.stack(places)[1:]
    assert np.sqrt(np.square(wrong).mean()) < 0.05
    assert np.sqrt(np.square(first.positions - np.stack(places)[1:]).mean()) > 0.1
    assert np.mean(np.abs(wrong) < 1.96 * found.sigma[..., None]) > 0.8


def test_starts_far_from_the_training_are_told_and_have_wide_error_bars(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rollout = load_rollout(run(tmp_path, optimizer__max_epochs=1).model)
    arrays = spring_run(40)
    near = Atoms("OH2", arrays["R"][20])
    near.set_velocities(arrays["V"][20] / units.fs)
    far, fast = near.copy(), near.copy()
    far.positions[1] += 0.3 * (far.positions[1] - far.positions[0])
    fast.set_velocities(5.0 * fast.get_velocities())
    sigma = [float(rollout.trajectory(atoms, [10.0]).sigma.mean()) for atoms in (near, far, fast)]
    assert "1 of 1 structures are beyond the displacements, velocities or kinetic energies of the training" in caplog.text
    assert len(caplog.records) == 2
    assert min(sigma[1:]) > 1.5 * sigma[0]
    crushed = near.copy()
    crushed.positions[1] = crushed.positions[0] + 0.5 * (crushed.positions[1] - crushed.positions[0])
    assert np.isfinite(rollout.trajectory(crushed, [10.0, 20.0]).positions).all()
    caplog.clear()
    later = [Atoms("OH2", x, velocities=v / units.fs) for x, v in zip(arrays["R"][::4], arrays["V"][::4], strict=True)]
    trajectories(rollout, later, [10.0])
    assert not caplog.records  # frames of the training


@pytest.mark.parametrize("message", ["H1 has a mass of 2.014, and 1.008", ""])
def test_other_isotopes_are_refused(tmp_path: Path, message: str) -> None:
    rollout = load_rollout(run(tmp_path, optimizer__max_epochs=1).model)
    arrays = spring_run(2)
    atoms = Atoms("OH2", arrays["R"][0])
    if message:
        atoms.set_masses([15.999, 2.014, 2.014])
    atoms.set_velocities(arrays["V"][0] / units.fs)
    if message:
        with pytest.raises(StructureError, match=message):
            rollout.trajectory(atoms, [1.0])
    else:
        rollout.trajectory(atoms, [1.0])


def linear_run(n_frames: int = 1200) -> dict[str, Any]:
    """Arrays of a trajectory of CO2-like atoms on springs, which bend about a straight line."""
    mean, masses = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.2], [0.0, 0.0, -1.2]]), np.array([12.0, 16.0, 16.0])
    random = np.random.default_rng(4)
    x, v = mean + 0.02 * random.normal(size=(3, 3)), 0.003 * random.normal(size=(3, 3))

    def acceleration(x: np.ndarray) -> np.ndarray:
        force = np.zeros((3, 3))
        for i, j, k, length in ((0, 1, 80.0, 1.2), (0, 2, 80.0, 1.2), (1, 2, 20.0, 2.44)):  # the last one keeps it straight
            r = x[i] - x[j]
            d = np.linalg.norm(r)
            force[i] -= k * (d - length) * r / d
            force[j] += k * (d - length) * r / d
        return 0.00964853 * force / masses[:, None]

    frames = []
    for _ in range(n_frames):
        frames.append((x.copy(), v.copy()))
        v = v + 0.25 * acceleration(x)
        x = x + 0.5 * v
        v = v + 0.25 * acceleration(x)
    places, speeds = (np.array(each) for each in zip(*frames, strict=True))
    return {
        "R": places, "V": speeds, "z": np.array([6, 8, 8]), "v_unit": np.asarray("Angstrom/fs"),
        "timestep_fs": np.asarray(0.5),
    }  # fmt: skip


def test_linear_molecules(tmp_path: Path) -> None:
    """A start that is exactly straight, and moves along its axis, gives a path that turns with it."""
    result = run(tmp_path, linear_run(), trainer__precision="float64")
    errors = result.report.errors
    assert errors["rollout"].mse < 0.1 * errors["rotor of the start"].mse
    rollout = load_rollout(result.model).to_precision("float64")
    assert rollout.config["straight"] == [[1, 0, 2]]
    assert torch.linalg.matrix_rank(rollout.base.reference, atol=1e-9) == 1
    x = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 1.25], [0.0, 0.0, -1.2]]], dtype=torch.float64)
    v = torch.tensor([[[0.0, 0.0, 0.004], [0.0, 0.0, -0.003], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    times = torch.tensor([[3.0, 11.0, 20.0]], dtype=torch.float64)
    with torch.no_grad():
        found = rollout(rollout_graph(rollout.topology, x, v, times))["path"]
        turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
        moved = rollout(rollout_graph(rollout.topology, x @ turn.T, v @ turn.T, times))["path"]
    assert float((moved - found @ turn.T).abs().max()) < 1e-9
    (tmp_path / "other").mkdir()
    with pytest.raises(DatasetError, match="is straight, and the base `harmonic` knows no axis"):
        run(tmp_path / "other", linear_run(), rollout__base="harmonic")


def test_parts_follow_each_other_with_a_gap(tmp_path: Path) -> None:
    np.savez(tmp_path / "water.npz", **spring_run(800))
    windows = split_run(read_run(tmp_path / "water.npz"), 20.0, {"train": None, "valid": None, "test": None}, n_times=4)
    ends = {part: (int(one.starts.min()), int((one.starts + one.ahead[:, -1]).max())) for part, one in windows.items()}
    assert ends["valid"][0] - 480 >= 40
    assert ends["train"][1] <= 480
    assert ends["test"][0] - 600 >= 40
    assert all((np.diff(one.ahead, axis=1) > 0).all() and one.ahead.min() >= 1 for one in windows.values())


def test_velocities_are_central_differences_where_there_are_none(tmp_path: Path) -> None:
    arrays = spring_run(300)
    np.savez(tmp_path / "with.npz", **arrays)
    # The other arrays of archives of MD17 are read over.
    more = {"E": np.zeros((300, 1)), "F": np.zeros((300, 3, 3)), "name": np.asarray("water"), "theory": np.asarray("none")}
    kept = {key: value for key, value in arrays.items() if key not in ("V", "v_unit")}
    np.savez(tmp_path / "without.npz", **more, **kept)
    own, found = read_run(tmp_path / "with.npz"), read_run(tmp_path / "without.npz")
    assert found.differences
    assert np.allclose(found.positions, own.positions[1:-1])
    assert np.abs(found.velocities - own.velocities[1:-1]).max() < 0.05 * np.abs(own.velocities).max()


def test_normal_modes_have_the_frequencies_of_the_springs(tmp_path: Path) -> None:
    np.savez(tmp_path / "water.npz", **spring_run(4000))
    molecule, whole = molecule_of(read_run(tmp_path / "water.npz"), heavy_atoms=False)
    windows = split_run(whole, 20.0, {"train": 100}, n_times=4)["train"]
    found = measure(windows, molecule, "harmonic")
    to_modes, from_modes = found.buffers["base.to_modes"], found.buffers["base.from_modes"]
    assert torch.allclose(to_modes @ from_modes, torch.eye(len(to_modes), dtype=torch.float64), atol=1e-8)
    table = found.buffers["base.table"]
    assert torch.allclose(table[0, 0], torch.ones(len(to_modes), dtype=torch.float64), atol=1e-6)
    assert torch.allclose(table[0, 1], torch.zeros(len(to_modes), dtype=torch.float64), atol=1e-6)
    assert float(found.buffers["errors"][0].max()) < 1e-3  # the modes hold every displacement


def vibrating(mean: np.ndarray, n_frames: int = 600, size: float = 0.08) -> torch.Tensor:
    """Structures of equal masses near a mean, turned and mirrored at random [n_frames, n_atoms, 3]."""
    random = np.random.default_rng(1)
    noise = size * random.normal(size=(n_frames, *mean.shape))
    frames = mean - mean.mean(axis=0) + noise - noise.mean(axis=1, keepdims=True)
    turns = np.linalg.qr(random.normal(size=(n_frames, 3, 3)))[0]
    return torch.from_numpy(frames @ turns)


def test_one_vibration_about_a_plane_leaves_it_planar() -> None:
    square, steps = np.array([[1.0, 0.0, 0.0], [0.0, 1.3, 0.0], [-1.0, 0.0, 0.0], [0.0, -1.6, 0.0]]), np.arange(400)
    frames = np.tile(square, (400, 1, 1))
    frames[:, ::2, 2] += 0.2 * np.sin(0.37 * steps)[:, None]
    frames[:, 1::2, 2] -= 0.2 * np.sin(0.37 * steps)[:, None]
    mean, reflection = mean_structure(torch.from_numpy(frames), torch.ones(4, dtype=torch.float64))
    assert reflection is not None
    assert float(torch.linalg.svdvals(mean)[-1]) < 1e-12


@pytest.mark.parametrize("height", [0.0, 0.5])
def test_molecules_that_vibrate_about_a_plane_have_a_planar_mean(height: float) -> None:
    """A square of atoms, two of which are lifted."""
    square = np.array([[1.0, 0.0, height], [0.0, 1.3, 0.0], [-1.0, 0.0, height], [0.0, -1.6, 0.0]])
    masses = torch.ones(4, dtype=torch.float64)
    mean, reflection = mean_structure(vibrating(square), masses)
    thickness = float(torch.linalg.svdvals(mean)[-1])
    if height:
        assert reflection is None
        assert thickness == pytest.approx(np.linalg.svd(square - square.mean(axis=0))[1][-1], rel=0.05)
    else:
        assert reflection is not None
        assert thickness < 1e-12
        assert torch.allclose(mean @ reflection, mean, atol=1e-12)


def test_paths_of_planar_molecules_do_not_depend_on_the_side_of_the_plane(tmp_path: Path) -> None:
    result = run(tmp_path, trainer__precision="float64", rollout__base="harmonic")
    rollout = load_rollout(result.model).to_precision("float64")
    assert float(torch.linalg.svdvals(rollout.base.reference)[-1]) < 1e-10
    arrays = spring_run(40, seed=3)
    x, v = (torch.from_numpy(arrays[name][::10]) for name in ("R", "V"))
    v = v + 0.002 * torch.randn(v.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = torch.tensor([3.0, 11.0, 20.0], dtype=torch.float64).expand(len(x), -1)
    with torch.no_grad():
        found = rollout(rollout_graph(rollout.topology, x, v, times))["path"]
        for seed in range(6):
            turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
            turn = turn * (-1.0) ** seed
            moved = rollout(rollout_graph(rollout.topology, x @ turn.T, v @ turn.T, times))["path"]
            assert float((moved - found @ turn.T).abs().max()) < 1e-9


def test_trajectories_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    arrays = spring_run(300)
    with pytest.raises(DatasetError, match="leave no first frame there: make a longer trajectory"):
        run(tmp_path, arrays, data__horizon=80.0)
    with pytest.raises(DatasetError, match="is not a whole number"):
        run(tmp_path, arrays, data__horizon=10.2)
    with pytest.raises(DatasetError, match="4 regular times do not divide"):
        run(tmp_path, arrays, data__horizon=9.0, data__times={"regular": 4})
    with pytest.raises(DatasetError, match="1 atoms are left without hydrogens; keep the hydrogens"):
        run(tmp_path, arrays, data__heavy_atoms=True)
    alone = {name: arrays[name][:, :1] for name in ("R", "V")} | {"z": arrays["z"][:1], "v_unit": arrays["v_unit"]}
    with pytest.raises(DatasetError, match="has 1 atom; a rollout needs at least two"):
        run(tmp_path, alone)
    two = {name: np.concatenate([arrays[name], arrays[name] + 9.0 * (name == "R")], axis=1) for name in ("R", "V")}
    with pytest.raises(DatasetError, match=r"give frames in which it is whole$"):
        run(tmp_path, two | {"z": np.tile(arrays["z"], 2), "v_unit": arrays["v_unit"]})
    apart = spring_run(300)
    apart["R"] = apart["R"].copy()
    bond = apart["R"][280:, 1] - apart["R"][280:, 0]
    apart["R"][280:, 1] += 0.1 * np.arange(20)[:, None] * bond
    with pytest.raises(DatasetError, match=r"frame 28\d: atoms 0 and 1 are .* where a bond breaks"):
        run(tmp_path, apart)
    still = spring_run(800)
    with pytest.raises(DatasetError, match=r"velocities of the training frames of .* are 0"):
        run(tmp_path, still | {"V": np.zeros_like(still["V"])})
    with pytest.raises(DatasetError, match=r"positions of the training frames of .* are the same"):
        run(tmp_path, still | {"R": np.broadcast_to(still["R"][:1], still["R"].shape).copy()})
    order = spring_run(300)
    order["z"] = np.tile(order["z"], (300, 1))
    order["z"][7] = [1, 8, 1]
    with pytest.raises(DatasetError, match="The order of atoms must not change"):
        run(tmp_path, order)
    with pytest.raises(DatasetError, match=r"says that frames are 0\.5 fs apart, not 1"):
        run(tmp_path, arrays, data__timestep=1.0)
    with pytest.raises(RecipeError, match="there is no file"):
        train(parse_recipe(recipe_of(tmp_path) | {"data": {"file": "nowhere.npz"}}, tmp_path / "recipe.yaml"))
    for change, message in (
        ({"data__times": {"regular": 4, "irregular": 4}}, "exactly one"), ({"trainer__compile": True}, "not compiled"),
        ({"trainer__precision": "mixed"}, "mixed"), ({"rollout__modes": 2, "rollout__eigenspaces": 1}, "give one of them"),
        ({"rollout__base": "rotors"}, "rotor"), ({"data__split": {"train": 0.9, "valid": 0.3}}, "add up to"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=message):
            run(tmp_path, arrays, **change)
    assert not (tmp_path / "run").exists()


def test_metrics_are_written(tmp_path: Path) -> None:
    result = run(tmp_path, optimizer__max_epochs=1)
    with (result.folder / "metrics.csv").open() as stream:
        row = next(csv.DictReader(stream))
    assert float(row["valid_path_mse"]) > 0.0
