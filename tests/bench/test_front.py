"""Error against time: networks by name, recipes, finished runs, tables and the plot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mlff_calc.bench import front as fronts
from mlff_calc.bench.entrants import DATA_SETS, Entrant, parse_entrants
from mlff_calc.bench.front import Front
from mlff_calc.bench.front_costs import drift, time_in_turns
from mlff_calc.bench.systems import build_system
from mlff_calc.errors import BenchmarkError, OptionError
from mlff_calc.potential import build_potential
from mlff_calc.training.recipe import parse_recipe

NETWORKS = "equiformer:2x32x2,deq0.8:2x32x1,hegnn:3x64x2,cg_egnn"


def plan(folder: Path, **changes: Any) -> Front:
    fields = {"data_sets": ["ethanol"], "entrants": parse_entrants(NETWORKS), "minutes": [0.02], "output": folder / "out"}
    return Front(**{**fields, "compiled": False, "rounds": 2, **changes})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folder of data sets with a small rmd17/ethanol.npz, labelled by springs."""
    atoms = build_system("ethanol")
    generator = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"z": atoms.numbers.astype("uint8")}
    for part, n in (("train", 1000), ("test", 6)):
        offsets = generator.normal(scale=0.05, size=(n, len(atoms), 3))
        arrays[f"R_{part}"] = atoms.positions + offsets
        arrays[f"E_{part}"] = -97000.0 + 100.0 * (offsets**2).sum(axis=(1, 2))
        arrays[f"F_{part}"] = -200.0 * offsets
    (tmp_path / "data/rmd17").mkdir(parents=True)
    np.savez(tmp_path / "data/rmd17/ethanol.npz", **arrays)
    return tmp_path / "data"


def random_run(folder: Path, name: str) -> Path:
    """Folder of a run that contains a potential with random weights."""
    config = {"backbone": {"name": name, "cutoff": 4.0, "channels": 8, "n_layers": 1}, "elements": ["H", "C", "O"]}
    build_potential(config, seed=0).save(folder / name / "potential")
    return folder / name


def test_networks_by_name() -> None:
    found = parse_entrants("hegnn, equiformer:2x32x3,hegnn,deq0.8:2x16x2,deq0:2x16x2")
    assert [str(one) for one in found] == ["hegnn", "equiformer:2x32x3", "deq0.8:2x16x2", "deq0:2x16x2"]
    assert found[0].options() == {"name": "hegnn", "cutoff": 5.0}
    assert found[1].options() == {"name": "equiformer", "cutoff": 5.0, "l_max": 2, "channels": 32, "n_layers": 3}
    assert found[2].options() == {"name": "deq", "cutoff": 5.0, "l_max": 2, "channels": 16, "n_blocks": 2}
    assert (found[2].radius, found[3].radius, found[0].radius) == (0.8, 0.0, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hegn", "unknown backbone 'hegn'"),
        ("hegnn:2x32", "'hegnn:2x32' is no network"),
        ("hegnn;deq", "'hegnn;deq' is no network"),
        ("hegnn0.5", "solves for no fixed point"),
        (" ,", "names no network"),
    ],
)
def test_wrong_networks(text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        parse_entrants(text)


def test_data_sets_by_name() -> None:
    assert fronts.parse_data_sets("silicon, ethanol,silicon") == ["silicon", "ethanol"]
    with pytest.raises(OptionError, match=r"unknown data set 'benzene'; known: ethanol, aspirin, silicon"):
        fronts.parse_data_sets("benzene")


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_recipes_differ_in_the_network_and_its_learning_rate(data_set: str, tmp_path: Path) -> None:
    front = plan(tmp_path)
    recipes = {one.backbone: front.recipe(data_set, one, 7.0, 3) for one in front.entrants}
    for one in front.entrants:
        parsed = parse_recipe(recipes[one.backbone], tmp_path / "recipe.yaml")
        config = parsed.potential.backbone.config()
        assert {key: config[key] for key in one.options()} == one.options()
        assert parsed.data.sources("train")[0].file == f"${{MLFF_DATA}}/{DATA_SETS[data_set].file}"
        assert (parsed.optimizer.max_cpu_minutes, parsed.optimizer.max_minutes) == (7.0, None)
        assert parsed.trainer.seed == 3
    assert {name: recipe["optimizer"]["learning_rate"] for name, recipe in recipes.items()} == {
        "equiformer": 0.002, "deq": 0.002, "cg_egnn": 0.005, "hegnn": 0.005,
    }  # fmt: skip
    assert len({recipe["optimizer"]["batch_size"] for recipe in recipes.values()}) == 1


def test_missing_data_are_reported_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"ethanol.npz, which is missing"):
        fronts.measure_front(plan(tmp_path, data=tmp_path))
    assert not (tmp_path / "out").exists()


def test_every_run_is_judged_and_every_network_timed_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def train(front: Front, data_set: str, entrant: Entrant, minutes: float, seed: int) -> None:
        folder = front.folder(data_set, entrant, minutes, seed)
        trained.append(folder.name)
        random_run(folder.parent, entrant.backbone).rename(folder)
        errors = {name: {"mae": 10.0 * seed / minutes, "rmse": 2.0} for name in ("energy_per_atom", "forces")}
        (folder / "evaluation.json").write_text(json.dumps({"errors": errors}))
        (folder / "metrics.csv").write_text("epoch,step\n1,7\n2,14\n")

    monkeypatch.setattr(fronts, "train", train)
    front = plan(tmp_path, data=data, entrants=parse_entrants("equiformer,hegnn"), minutes=[4.0, 2.0], seeds=[1, 3])
    rows = fronts.measure_front(front)
    assert len(trained) == len(set(trained)) == 8
    assert [(row["network"], row["minutes"], row["force_mae"], row["steps"]) for row in rows] == [
        ("equiformer", 2.0, 10.0, 14), ("hegnn", 2.0, 10.0, 14), ("equiformer", 4.0, 5.0, 14), ("hegnn", 4.0, 5.0, 14),
    ]  # fmt: skip
    assert rows[0]["force_maes"] == [5.0, 15.0]
    assert rows[0]["us_per_atom"] == rows[2]["us_per_atom"] == pytest.approx(1e3 * rows[0]["step_ms"] / 9)
    fronts.write_results({"rows": rows}, tmp_path)
    assert (tmp_path / "front.png").stat().st_size > 1000
    assert (tmp_path / "front.md").read_text() == fronts.as_markdown(rows)


def test_potentials_take_turns(tmp_path: Path) -> None:
    folders = {name: random_run(tmp_path, name) for name in ("equiformer", "hegnn")}
    found = time_in_turns(build_system("ethanol"), folders, rounds=3, compiled=False)
    assert list(found) == ["equiformer", "hegnn"]
    assert found["equiformer"]["ratio"] == 1.0
    for row in found.values():
        assert 0.1 < row["step_min_ms"] <= row["step_ms"]
    assert found["hegnn"]["ratio"] < 1.0  # a layer of hegnn costs half as much as one of equiformer


def test_drift_of_a_potential(tmp_path: Path) -> None:
    row = drift(build_system("ethanol"), random_run(tmp_path, "hegnn"), time_ps=0.05, compiled=False)
    assert set(row) == {"drift", "drift_error", "temperature_K", "drift_note"}
    assert (row["drift"] is None) == bool(row["drift_note"])


def test_the_table_leaves_out_empty_columns() -> None:
    row = {
        "data_set": "ethanol", "network": "deq", "minutes": 5.0, "parameters": 74255, "steps": 100, "force_mae": 12.34,
        "force_rmse": 20.0, "energy_mae": 2.0, "step_ms": 1.234, "us_per_atom": 137.1, "ratio": 0.5, "stress_mae": None,
        "drift": None, "drift_note": "the structure flew apart",
    }  # fmt: skip
    lines = fronts.as_markdown([row, row | {"drift": -2e-4, "drift_note": ""}]).splitlines()
    assert lines[0].startswith("| data | network | min | weights | steps |")
    assert "stress" not in lines[0]
    assert "| 2.00 | 12.3 | 20.0 | 137.1 | 0.50 | the structure flew apart |" in lines[2]
    assert "| -2.0e-04 |" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.slow
def test_a_run_is_not_repeated_unless_its_recipe_changed(data: Path, tmp_path: Path) -> None:
    front = plan(tmp_path, data=data)
    run = ("ethanol", parse_entrants("hegnn")[0], 0.02, 1)
    fronts.train(front, *run)
    weights = front.folder(*run) / "potential/weights.safetensors"
    first = weights.stat().st_mtime_ns
    fronts.train(front, *run)
    assert weights.stat().st_mtime_ns == first
    file = front.output / f"{front.folder(*run).name}.yaml"
    file.write_text(file.read_text().replace("0.005", "0.001"))
    fronts.train(front, *run)
    assert weights.stat().st_mtime_ns > first


@pytest.mark.slow
def test_an_interrupted_run_continues(data: Path, tmp_path: Path) -> None:
    front = plan(tmp_path, data=data)
    run = ("ethanol", parse_entrants("hegnn")[0], 0.02, 1)
    fronts.train(front, *run)
    folder = front.folder(*run)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"finished": False}))
    metrics = (folder / "metrics.csv").read_bytes()
    fronts.train(front, *run)
    assert json.loads((folder / "run.json").read_text())["finished"]
    assert (folder / "metrics.csv").read_bytes() == metrics


@pytest.mark.slow
def test_the_command(data: Path, tmp_path: Path) -> None:
    words = ["--minutes", "0.02", "--data-sets", "ethanol", "--networks", "cg_egnn,hegnn", "--no-compile", "--memory"]
    words += ["--rounds", "2", "--drift-ps", "0.02", "--output", str(tmp_path / "out"), "--data", str(data)]
    command = [sys.executable, "-m", "mlff_calc.cli.main", "bench", "front", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "cg_egnn" in done.stdout
    result = json.loads((tmp_path / "out/front.json").read_text())
    assert [row["network"] for row in result["rows"]] == ["cg_egnn", "hegnn"]
    for row in result["rows"]:
        assert row["steps"] > 0
        assert row["force_mae"] > 0
        assert row["train_mib"] >= row["train_base_mib"] > 50
    recipe = yaml.safe_load((tmp_path / "out/ethanol-hegnn-0.02min-seed1.yaml").read_text())
    assert recipe["trainer"]["compile"] is False
