"""Trainable kinds: the table, a kind from outside of the package, recipes that are of none or of two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlff_calc.errors import OptionError, RecipeError
from mlff_calc.networks import kind_of
from mlff_calc.training.kind_names import kinds
from mlff_calc.training.kinds import task_for, task_of
from mlff_calc.training.recipe import parse_recipe

TOY = [Path(__file__).with_name(name) for name in ("toy_kind.py", "toy_module.py")]
RECIPE = """
line: {}
data: {file: points.txt}
optimizer: {batch_size: 8, max_epochs: 300, learning_rate: 0.1, ema_decay: null, warmup_steps: 1}
trainer: {device: cpu}
output: run
"""


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, str]:
    """An environment in which a package from elsewhere brings the kind `line`."""
    site = tmp_path / "site"
    (site / "toy_kind-0.1.dist-info").mkdir(parents=True)
    for file in TOY:
        (site / file.name).write_text(file.read_text())
    (site / "toy_kind-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-kind\nVersion: 0.1\n")
    (site / "toy_kind-0.1.dist-info" / "entry_points.txt").write_text("[mlff_calc.kinds]\nline = toy_kind:LineTask\n")
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def mlff(*words: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mlff_calc.cli.main", *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=240, check=False)


def test_a_kind_from_outside_is_trained_judged_and_shown(tmp_path: Path, outside: dict[str, str]) -> None:
    assert sum(len(file.read_text().splitlines()) for file in TOY) <= 150
    (tmp_path / "points.txt").write_text("".join(f"{x / 10} {3 * x / 10 - 1}\n" for x in range(40)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = mlff("train", "--example", "line", cwd=tmp_path, env=outside)
    assert (done.returncode, done.stdout) == (0, "line: {}\n"), done.stderr
    done = mlff("train", "recipe.yaml", "--quiet", "--set", "optimizer.max_epochs=200", cwd=tmp_path, env=outside)
    assert done.returncode == 0, done.stderr
    assert "line: " in done.stdout
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["mae"] < 1.0
    assert kind_of(tmp_path / "run" / "line") == "line"
    assert "a line through 24 points" in (tmp_path / "run" / "line" / "card.md").read_text()
    shown = mlff("potentials", "run/line", cwd=tmp_path, env=outside)
    assert "a line through" in shown.stdout
    judged = mlff("eval", "run/line", "points.txt", "--json", cwd=tmp_path, env=outside)
    assert json.loads(judged.stdout)["mae"] < 1.0, judged.stderr
    refused = mlff("eval", "run/line", "points.txt", "--hops", "2", cwd=tmp_path, env=outside)
    assert refused.returncode == 2
    assert "--hops means nothing for a line" in " ".join(refused.stderr.split())
    again = mlff("train", "recipe.yaml", "--resume", cwd=tmp_path, env=outside)
    assert again.returncode == 1
    assert "max_epochs was 200, is 300" in again.stderr


def test_without_the_package_its_files_are_named(tmp_path: Path, outside: dict[str, str]) -> None:
    (tmp_path / "points.txt").write_text("".join(f"{x} {x}\n" for x in range(20)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    words = ["train", "recipe.yaml", "--quiet", "--set", "optimizer.max_epochs=1"]
    assert mlff(*words, cwd=tmp_path, env=outside).returncode == 0
    without = outside | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    judged = mlff("eval", "run/line", "points.txt", cwd=tmp_path, env=without)
    assert judged.returncode == 1
    said = " ".join(judged.stderr.split())
    assert "run/line holds a line, a kind that no installed package brings (known are potential, propagator)" in said


def test_a_broken_package_harms_only_its_own_kind(tmp_path: Path, outside: dict[str, str]) -> None:
    broken = tmp_path / "site" / "broken-0.1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    places = {"aaa": "missing_package:Task", **dict.fromkeys(("loss", "potential", "other"), "toy_kind:LineTask")}
    entries = "".join(f"{name} = {place}\n" for name, place in places.items())
    (broken / "entry_points.txt").write_text(f"[mlff_calc.kinds]\n{entries}")
    (tmp_path / "points.txt").write_text("".join(f"{x} {x}\n" for x in range(20)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    words = ["train", "recipe.yaml", "--quiet", "--set", "optimizer.max_epochs=1"]
    done = mlff(*words, cwd=tmp_path, env=outside)
    assert done.returncode == 0, done.stderr
    assert "the kind 'loss' of toy_kind:LineTask is passed over" in " ".join(done.stderr.split())
    for kind, reason in (("aaa", "No module named 'missing_package'"), ("other", "its task is called 'line'")):
        done = mlff("train", "--example", kind, cwd=tmp_path, env=outside)
        assert done.returncode == 1
        assert reason in " ".join(done.stderr.split())


def test_a_recipe_without_data_loses_no_run(tmp_path: Path) -> None:
    from mlff_calc.training.recipe_base import TrainingRecipe, parse_as
    from mlff_calc.training.recipe_copies import runnable_recipe, shipped_recipe

    recipe = parse_as(TrainingRecipe, {"optimizer": {"max_epochs": 1}}, tmp_path / "recipe.yaml")
    assert runnable_recipe(recipe, tmp_path) == {"optimizer": {"max_epochs": 1}, "output": str(tmp_path)}
    assert shipped_recipe(recipe) == {"optimizer": {"max_epochs": 1}}


def test_the_table() -> None:
    assert kinds()[:2] == ["potential", "propagator"]
    for name in kinds():
        task = task_of(name)
        assert task.name == name
        assert task.example.strip()
    with pytest.raises(OptionError, match=r"no kind 'propagater'.*did you mean 'propagator'"):
        task_of("propagater")


def test_the_section_tells_the_kind() -> None:
    with pytest.raises(RecipeError, match="sections potential and propagator, each of another kind; keep one"):
        parse_recipe({"potential": {}, "propagator": {}}, "recipe.yaml")
    with pytest.raises(RecipeError, match="propagatr"):
        parse_recipe({"propagatr": {}, "data": {"file": "x"}}, "recipe.yaml")


def test_a_recipe_of_no_kind_is_refused() -> None:
    from mlff_calc.training.recipe_base import TrainingRecipe

    with pytest.raises(OptionError, match="TrainingRecipe is the recipe of no kind"):
        task_for(TrainingRecipe(optimizer={"max_epochs": 1}))
