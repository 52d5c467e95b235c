"""Trainings of studies are kept, go on after an interruption, and are refused where another recipe has made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mlff_calc.bench.studies.trainings import result_of
from mlff_calc.errors import BenchmarkError
from mlff_calc.training.data import Batch
from mlff_calc.training.folder import RunFolder
from mlff_calc.training.hamiltonian.objective import HamiltonianObjective
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.recipe_base import TrainingRecipe

from ..training.test_hamiltonian import recipe_of


def recipe(folder: Path, **changes: Any) -> TrainingRecipe:
    return parse_recipe(recipe_of(folder, optimizer__max_epochs=2, **changes), folder / "recipe.yaml")


def judge(record: dict[str, Any]) -> dict[str, Any]:
    return {"errors": record["evaluation"]["errors"]["model"]["all"], "run": record["run"]}


def test_results_are_kept_and_belong_to_a_recipe_and_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = tmp_path / "arm", recipe(tmp_path)
    found = result_of(folder, asked, judge)
    assert found["errors"] > 0.0

    def never(record: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError(record)

    assert result_of(folder, asked, never) == found
    (folder / "result.json").write_text('{"errors":')  # damaged: the finished run is judged again, and not trained again
    assert result_of(folder, asked, judge) == found
    for there in (True, False):  # a result, or a run without one
        with pytest.raises(BenchmarkError, match="made with another recipe"):
            result_of(folder, recipe(tmp_path, optimizer__learning_rate=0.02), judge)
        if there:
            (folder / "result.json").unlink()
    result_of(folder, asked, judge)
    monkeypatch.setattr("mlff_calc.bench.studies.trainings.__version__", "0.0")
    with pytest.raises(BenchmarkError, match="made with another version"):
        result_of(folder, asked, judge)


def test_a_killed_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked, calls = tmp_path / "arm", recipe(tmp_path), []
    loss = HamiltonianObjective.loss

    def dies(self: HamiltonianObjective, outputs: dict[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 6:  # in the second epoch
            raise KeyboardInterrupt
        return loss(self, outputs, batch)

    with monkeypatch.context() as patch:
        patch.setattr(HamiltonianObjective, "loss", dies)
        with pytest.raises(KeyboardInterrupt):
            result_of(folder, asked, judge)
    assert not (folder / "result.json").exists()
    begun = RunFolder(folder).read_record()["run"]
    assert result_of(folder, asked, judge)["run"] == begun


def test_a_beginning_without_a_record_is_made_anew_and_failures_are_results(tmp_path: Path) -> None:
    folder = tmp_path / "arm"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("half")
    assert "errors" in result_of(folder, recipe(tmp_path), judge)
    lost = parse_recipe(recipe_of(tmp_path, data__file="lost.h5"), tmp_path / "recipe.yaml")
    found = result_of(tmp_path / "other", lost, judge)
    assert "there is no file" in found["failed"]
    assert json.loads((tmp_path / "other" / "result.json").read_text()) == found
