"""Trainable kinds: the table, a kind from another package, and recipes of no kind or of two kinds."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
import yaml

from mlff_calc.cli.main import main
from mlff_calc.errors import OptionError, RecipeError
from mlff_calc.networks import kind_of
from mlff_calc.training import kind_names
from mlff_calc.training.checkpoint_files import load_tensors, save_tensors
from mlff_calc.training.kind_names import kinds
from mlff_calc.training.kinds import task_for, task_of
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.run import train

from ..children import Child

TOY = Path(__file__).with_name("toy_kind.py")
RECIPE = """
line: {}
data: {file: points.txt}
optimizer: {batch_size: 8, max_epochs: 300, learning_rate: 0.1, ema_decay: null, warmup_steps: 1}
trainer: {device: cpu}
output: run
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder for `PYTHONPATH` with another package, which provides the kind `line`."""
    folder = tmp_path / "site"
    (folder / "toy_kind-0.1.dist-info").mkdir(parents=True)
    (folder / TOY.name).write_text(TOY.read_text())
    (folder / "toy_kind-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-kind\nVersion: 0.1\n")
    (folder / "toy_kind-0.1.dist-info" / "entry_points.txt").write_text("[mlff_calc.kinds]\nline = toy_kind:LineTask\n")
    return folder


@pytest.fixture
def mlff(child: Callable[..., Child]) -> Callable[..., Child]:
    """Function that runs `mlff` in a process that finds the packages in a folder `site`, and waits for its end."""

    def run(*words: str, cwd: Path, site: Path) -> Child:
        def call() -> None:
            sys.path.insert(0, str(site))
            kind_names.table.cache_clear()
            main(list(words))

        done = child(call, cwd=cwd)
        done.wait()
        return done

    return run


def test_a_new_process_finds_a_kind_from_outside(tmp_path: Path, site: Path) -> None:
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "mlff_calc.cli.main", "train", "--example", "line"]
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "line: {}\n"), done.stderr


def test_a_kind_from_outside_is_trained_judged_and_shown(tmp_path: Path, site: Path, mlff: Callable[..., Child]) -> None:
    assert len(TOY.read_text().splitlines()) <= 150
    (tmp_path / "points.txt").write_text("".join(f"{x / 10} {3 * x / 10 - 1}\n" for x in range(40)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = mlff("train", "--example", "line", cwd=tmp_path, site=site)
    assert (done.returncode, done.stdout) == (0, "line: {}\n"), done.stderr
    done = mlff("train", "recipe.yaml", "--quiet", "--set", "optimizer.max_epochs=60", cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stderr
    assert "line: " in done.stdout
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["mae"] < 1.0
    assert kind_of(tmp_path / "run" / "line") == "line"
    assert "a line through 24 points" in (tmp_path / "run" / "line" / "card.md").read_text()
    shown = mlff("potentials", "run/line", cwd=tmp_path, site=site)
    assert "a line through" in shown.stdout
    judged = mlff("eval", "run/line", "points.txt", "--json", cwd=tmp_path, site=site)
    assert json.loads(judged.stdout)["mae"] < 1.0, judged.stderr
    refused = mlff("eval", "run/line", "points.txt", "--hops", "2", cwd=tmp_path, site=site)
    assert refused.returncode == 2
    assert "--hops does not apply to a line" in " ".join(refused.stderr.split())
    again = mlff("train", "recipe.yaml", "--resume", cwd=tmp_path, site=site)
    assert again.returncode == 1
    assert "max_epochs was 60, is 300" in again.stderr
    with (tmp_path / "run" / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[-1]["valid_ordinate_mae"]) < 1000.0
    compiled = mlff("train", "recipe.yaml", "--set", "trainer.compile=true", "--overwrite", cwd=tmp_path, site=site)
    assert compiled.returncode == 1
    assert "a line is not compiled for training; set trainer.compile: false" in " ".join(compiled.stderr.split())
    assert (tmp_path / "run" / "line").is_dir()  # nothing was replaced


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the kind `line` in this process."""
    monkeypatch.syspath_prepend(str(TOY.parent))
    monkeypatch.setitem(kind_names.table(), "line", "toy_kind:LineTask")


@pytest.mark.usefixtures("toy")
def test_noise_of_an_objective_follows_from_seed_and_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run draws the same noise as an uninterrupted one, independent of other generators."""
    from mlff_calc.training.module import TrainingModule

    (tmp_path / "points.txt").write_text("".join(f"{x / 10} {3 * x / 10 - 1}\n" for x in range(40)))
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("line: {}", "line: {noise: 0.5}"))
    few = ["optimizer.max_epochs=4"]
    whole = train(tmp_path / "recipe.yaml", overrides=few, output=tmp_path / "whole")
    train(tmp_path / "recipe.yaml", overrides=[*few, "trainer.seed=1"], output=tmp_path / "other")
    step = TrainingModule.training_step

    def interrupted(self: TrainingModule, batch: object, batch_idx: int) -> torch.Tensor:
        if (self.trainer.current_epoch, batch_idx) == (2, 1):
            raise KeyError("stop")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupted)
        with pytest.raises(KeyError, match="stop"):
            train(tmp_path / "recipe.yaml", overrides=few)
    last = load_tensors(tmp_path / "run" / "checkpoints" / "last.ckpt")
    save_tensors(last | {"random": {"cpu": torch.get_rng_state()}}, tmp_path / "run" / "checkpoints" / "last.ckpt")
    parts = train(tmp_path / "recipe.yaml", overrides=few, resume=True)
    assert weights(whole.folder) == weights(parts.folder) != weights(tmp_path / "other")


def weights(folder: Path) -> list[float]:
    state = load_tensors(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return [float(state["line.layer.weight"]), float(state["line.layer.bias"])]


@pytest.mark.usefixtures("toy")
def test_overwriting_removes_only_the_files_of_the_run_before(tmp_path: Path) -> None:
    (tmp_path / "points.txt").write_text("".join(f"{x} {x}\n" for x in range(20)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    few = ["optimizer.max_epochs=1"]
    folder = train(tmp_path / "recipe.yaml", overrides=few).folder
    record = json.loads((folder / "run.json").read_text())
    assert record["kind"] == "line"
    for kept in ("potential/mine.txt", "parity.png", "line/old.txt"):
        (folder / kept).parent.mkdir(exist_ok=True)
        (folder / kept).write_text("mine")
    train(tmp_path / "recipe.yaml", overrides=few, overwrite=True)
    assert (folder / "potential/mine.txt").exists()
    assert (folder / "parity.png").exists()
    assert not (folder / "line/old.txt").exists()
    (folder / "run.json").write_text(json.dumps(record | {"kind": "potential"}))  # like the record of a run of a potential
    train(tmp_path / "recipe.yaml", overrides=few, overwrite=True)
    assert not (folder / "potential").exists()
    assert not (folder / "parity.png").exists()


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("name", ["log", "device", "forward"])
def test_a_kind_may_be_called_like_an_attribute_of_lightning(name: str) -> None:
    """The name of a kind may equal an attribute of Lightning's module, except for attributes that the module itself sets."""
    from mlff_calc.training.module import TrainingModule
    from mlff_calc.training.objective import Objective

    recipe = parse_recipe(yaml.safe_load(RECIPE), "recipe.yaml")
    network = torch.nn.Linear(1, 1)
    module = TrainingModule(name, network, cast(Objective, None), recipe)
    assert module.network is network
    assert list(module.state_dict()) == [f"{name}.weight", f"{name}.bias"]
    module.load_state_dict(module.state_dict())
    assert {one for one in vars(module) if not one.startswith("_")} <= kind_names.RESERVED


@pytest.mark.usefixtures("toy")
def test_hints_name_the_kind() -> None:
    with pytest.raises(RecipeError, match=r"optimizer: this key is missing; `mlff train --example line` shows"):
        parse_recipe({"line": {}, "data": {"file": "x"}}, "recipe.yaml")
    with pytest.raises(RecipeError, match=r"data: this key is missing; `mlff train --example propagator` shows"):
        parse_recipe({"propagator": {"backbone": {"name": "hegnn"}}, "optimizer": {"max_epochs": 1}}, "recipe.yaml")


def test_without_the_package_its_files_are_named(tmp_path: Path, site: Path, mlff: Callable[..., Child]) -> None:
    (tmp_path / "points.txt").write_text("".join(f"{x} {x}\n" for x in range(20)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    words = ["train", "recipe.yaml", "--quiet", "--set", "optimizer.max_epochs=1"]
    assert mlff(*words, cwd=tmp_path, site=site).returncode == 0
    judged = mlff("eval", "run/line", "points.txt", cwd=tmp_path, site=tmp_path)
    assert judged.returncode == 1
    said = " ".join(judged.stderr.split())
    assert "run/line holds a line, a kind that no installed package provides" in said
    assert "(known are potential, propagator, rollout, score, hamiltonian, functional, property, pretraining)" in said


def test_a_broken_package_harms_only_its_own_kind(tmp_path: Path, site: Path, mlff: Callable[..., Child]) -> None:
    broken = tmp_path / "site" / "broken-0.1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    places = {"aaa": "missing_package:Task", **dict.fromkeys(("loss", "potential", "other"), "toy_kind:LineTask")}
    entries = "".join(f"{name} = {place}\n" for name, place in places.items())
    (broken / "entry_points.txt").write_text(f"[mlff_calc.kinds]\n{entries}")
    (tmp_path / "points.txt").write_text("".join(f"{x} {x}\n" for x in range(20)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    words = ["train", "recipe.yaml", "--quiet", "--set", "optimizer.max_epochs=1"]
    done = mlff(*words, cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stderr
    assert "the kind 'loss' of toy_kind:LineTask is ignored" in " ".join(done.stderr.split())
    for kind, reason in (("aaa", "No module named 'missing_package'"), ("other", "its task is called 'line'")):
        done = mlff("train", "--example", kind, cwd=tmp_path, site=site)
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


def test_the_section_determines_the_kind() -> None:
    with pytest.raises(RecipeError, match="sections potential and propagator, each of another kind; keep one"):
        parse_recipe({"potential": {}, "propagator": {}}, "recipe.yaml")
    with pytest.raises(RecipeError, match="propagatr"):
        parse_recipe({"propagatr": {}, "data": {"file": "x"}}, "recipe.yaml")


def test_a_recipe_of_no_kind_is_refused() -> None:
    from mlff_calc.training.recipe_base import TrainingRecipe

    with pytest.raises(OptionError, match="TrainingRecipe is the recipe of no kind"):
        task_for(TrainingRecipe(optimizer={"max_epochs": 1}))
