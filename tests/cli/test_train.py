"""`mlff train`: what the command line itself does; whole runs are in tests/training/test_run.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.training.potential.example import EXAMPLE_RECIPE
from mlff_calc.training.recipe import load_recipe


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
        ([], 2, "name a recipe"),
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
