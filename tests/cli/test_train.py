"""`mlff train` on the command line; whole runs are in tests/training/test_run.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.potential import load_potential
from mlff_calc.training.potential.example import EXAMPLE_RECIPE
from mlff_calc.training.recipe import load_recipe

from ..children import Child


def test_example_is_printed_or_written_and_validates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(build_app(), ["train", "--example"]) == 0
    assert capsys.readouterr().out == EXAMPLE_RECIPE
    target = tmp_path / "recipe.yaml"
    assert run_cli(build_app(), ["train", "--example", "--output", str(target)]) == 0
    assert load_recipe(target).output == "runs/my-potential"
    assert run_cli(build_app(), ["train", "--example", "--output", str(target)]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        ([], 2, "give a recipe"),
        (["gone.yaml"], 1, "cannot read the recipe"),
        (["recipe.yaml", "--set", "optimizer.batchsize=4"], 1, "did you mean 'batch_size'"),
        (["recipe.yaml"], 1, "there is no file"),
        (["recipe.yaml", "--set", "potential.repulsion.reach=abc"], 1, "recipe.yaml: potential.repulsion.reach: 'abc'"),
        (["recipe.yaml", "--set", "potential.backbone.n_layers=1.5"], 1, "recipe.yaml: potential.backbone.n_layers: "),
    ],
)
def test_bad_input_is_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(EXAMPLE_RECIPE)
    assert run_cli(build_app(), ["train", *arguments]) == status
    assert expected in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_messages_appear_once(tmp_path: Path, child: Callable[..., Child]) -> None:
    """A child process is used, since pytest captures log records of this process."""
    random, frames = np.random.default_rng(0), []
    for _ in range(6):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, rng=random)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    ase.io.write(tmp_path / "copper.extxyz", frames)
    (tmp_path / "recipe.yaml").write_text(
        "potential: {backbone: {name: hegnn, cutoff: 4.0, l_max: 1, channels: 4, n_layers: 1}}\n"
        "data: {train: copper.extxyz, split: {valid: 2}}\n"
        "optimizer: {batch_size: 2, max_epochs: 1, warmup_steps: 1}\ntrainer: {device: cpu}\noutput: run\n"
    )
    for quiet in ([], ["--quiet"]):
        done = child("train", "recipe.yaml", "--overwrite", *quiet, cwd=tmp_path)
        assert done.wait() == 0, done.stderr
        said = done.stdout + done.stderr
        assert said.count("reference energies fitted") == 1
        assert said.count("copper.extxyz") == 2  # for the training and the validation part
        assert done.stdout.count("energy per atom") == 1
        n_weights = sum(weight.numel() for weight in load_potential(tmp_path / "run" / "potential").parameters())
        assert done.stdout.startswith(f"{n_weights} weights, trained in ")
