"""Backbones trained and judged side by side: recipes, runs that are not repeated, tables, mistakes."""

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

from mlff_calc.bench import force_fields
from mlff_calc.bench.force_fields import ENTRANTS, Comparison, as_markdown, parse_names, recipe_of, time_in_turns, train
from mlff_calc.bench.systems import build_system
from mlff_calc.errors import BenchmarkError, OptionError
from mlff_calc.potential import build_potential
from mlff_calc.training.recipe import parse_recipe


def comparison(folder: Path, **changes: Any) -> Comparison:
    fields = {"minutes": 0.02, "molecules": ["ethanol"], "backbones": list(ENTRANTS), "output": folder / "out"}
    return Comparison(**{**fields, "compiled": False, "rounds": 2, "drift_ps": 0.05, **changes})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of data sets with a small rmd17/ethanol.npz in a well of springs."""
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
    """The folder of a run that holds a potential with random weights."""
    options = {"channels": 8, "n_layers": 1} if name != "deq" else {"channels": 8}
    config = {"backbone": {"name": name, "cutoff": 4.0, **options}, "elements": ["H", "C", "O"]}
    build_potential(config, seed=0).save(folder / name / "potential")
    return folder / name


def test_names() -> None:
    assert parse_names("hegnn, deq,hegnn", list(ENTRANTS), "backbone") == ["hegnn", "deq"]


@pytest.mark.parametrize(
    ("text", "said"), [("hegn", r"unknown backbone 'hegn'.*known: equiformer, deq"), (" ,", "names no backbone")]
)
def test_wrong_names(text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        parse_names(text, list(ENTRANTS), "backbone")


@pytest.mark.parametrize("molecule", force_fields.MOLECULES)
def test_recipes_differ_in_the_backbone_and_what_belongs_to_it(molecule: str, tmp_path: Path) -> None:
    recipes = {name: recipe_of(comparison(tmp_path), molecule, name) for name in ENTRANTS}
    for name, recipe in recipes.items():
        parsed = parse_recipe(recipe, tmp_path / "recipe.yaml")
        assert parsed.potential is not None
        assert parsed.potential.backbone.name == name
        assert parsed.potential.backbone.config()["cutoff"] == 5.0
        assert parsed.data.train[0].file == f"${{MLFF_DATA}}/rmd17/{molecule}.npz"
        assert (parsed.data.split.train, parsed.data.split.valid) == (950, 50)
        assert parsed.optimizer.max_minutes == 0.02
        assert parsed.optimizer.batch_size == 5
        assert parsed.trainer.seed == 1
    assert {name: recipe["optimizer"]["learning_rate"] for name, recipe in recipes.items()} == {
        "equiformer": 0.002, "deq": 0.002, "cg_egnn": 0.005, "hegnn": 0.005,
    }  # fmt: skip


def test_missing_data_are_said_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"ethanol.npz, which is missing"):
        force_fields.compare_force_fields(comparison(tmp_path, data=tmp_path))
    assert not (tmp_path / "out").exists()


def test_potentials_take_turns(tmp_path: Path) -> None:
    folders = {name: random_run(tmp_path, name) for name in ("equiformer", "hegnn")}
    found = time_in_turns(build_system("ethanol"), folders, rounds=3, compiled=False)
    assert list(found) == ["equiformer", "hegnn"]
    assert found["equiformer"]["ratio"] == 1.0
    for row in found.values():
        assert 0.1 < row["step_min_ms"] <= row["step_ms"]
    assert found["hegnn"]["ratio"] < 1.0  # a layer of hegnn costs half of one of equiformer


def test_drift_of_a_potential(tmp_path: Path) -> None:
    folder = random_run(tmp_path, "hegnn")
    atoms = build_system("ethanol")
    assert force_fields.drift(atoms, folder, comparison(tmp_path, drift_ps=0.0))["drift_note"] == "not run"
    row = force_fields.drift(atoms, folder, comparison(tmp_path))
    assert set(row) == {"drift", "drift_error", "temperature_K", "drift_note"}
    assert (row["drift"] is None) == bool(row["drift_note"])


def test_the_table() -> None:
    row = {
        "molecule": "ethanol", "backbone": "deq", "parameters": 74255, "steps": 100, "force_mae": 12.34, "energy_mae": 2.0,
        "step_ms": 1.234, "ratio": 0.5, "train_mib": 400.4, "step_mib": 366.0, "cpu_minutes": 5.0,
        "drift": None, "drift_note": "the molecule flew apart",
    }  # fmt: skip
    text = as_markdown([row, row | {"drift": -2e-4, "drift_note": ""}])
    lines = text.splitlines()
    assert lines[0].startswith("| molecule | backbone | weights |")
    assert "| 12.3 | 2.0 | 1.23 | 0.50 | 400 | 366 | the molecule flew apart | 5.0 |" in lines[2]
    assert "| -2.0e-04 |" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.slow
def test_a_run_is_not_repeated_unless_its_recipe_changed(data: Path, tmp_path: Path) -> None:
    chosen = comparison(tmp_path, data=data)
    train(chosen, "ethanol", "hegnn")
    weights = chosen.folder("ethanol", "hegnn") / "potential/weights.safetensors"
    first = weights.stat().st_mtime_ns
    train(chosen, "ethanol", "hegnn")
    assert weights.stat().st_mtime_ns == first
    record = chosen.output / "ethanol-hegnn-0.02min.json"
    facts = json.loads(record.read_text())
    assert facts["wall_minutes"] > 0.02
    assert 0.0 < facts["cpu_share"] < 1.5
    record.write_text(json.dumps(facts | {"recipe": facts["recipe"].replace("0.005", "0.001")}))
    train(chosen, "ethanol", "hegnn")
    assert weights.stat().st_mtime_ns > first


@pytest.mark.slow
def test_the_command(data: Path, tmp_path: Path) -> None:
    words = ["--minutes", "0.02", "--molecules", "ethanol", "--backbones", "cg_egnn,hegnn", "--no-compile"]
    words += ["--rounds", "2", "--drift-ps", "0.02", "--output", str(tmp_path / "out"), "--data", str(data)]
    command = [sys.executable, "-m", "mlff_calc.cli.main", "bench", "force-fields", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "cg_egnn" in done.stdout
    result = json.loads((tmp_path / "out/force_fields.json").read_text())
    assert [row["backbone"] for row in result["rows"]] == ["cg_egnn", "hegnn"]
    for row in result["rows"]:
        assert row["steps"] > 0
        assert row["force_mae"] > 0
        assert row["train_mib"] >= row["train_base_mib"] > 50
    assert (tmp_path / "out/force_fields.md").read_text() == as_markdown(result["rows"])
    recipe = yaml.safe_load((tmp_path / "out/ethanol-hegnn-0.02min.yaml").read_text())
    assert recipe["trainer"]["compile"] is False
