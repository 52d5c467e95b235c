"""Training in each precision gives a potential that can be loaded and has the errors in its report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.potential import load_potential
from mlff_calc.training.checkpoint_files import load_tensors
from mlff_calc.training.frames.read import read_frames
from mlff_calc.training.potential.evaluate import evaluate
from mlff_calc.training.recipe import load_recipe


@pytest.mark.parametrize("precision", ["float32", "mixed", "float64"])
def test_a_potential_trained_in_any_precision_loads(project: Callable[..., Path], precision: str) -> None:
    path = project(optimizer__max_epochs=2)
    assert run_cli(build_app(), ["train", str(path), "--quiet", "--set", f"trainer.precision={precision}"]) == 0
    folder = path.parent / "run"
    best = load_tensors(folder / "checkpoints" / "best.ckpt")["weights"]
    assert {weight.dtype for weight in best.values()} >= {torch.float32 if precision == "float32" else torch.float64}
    potential = load_potential(folder / "potential")
    assert {parameter.dtype for parameter in potential.parameters()} == {torch.float32}
    for name, parameter in potential.named_parameters():
        assert torch.equal(parameter, best[name].float()), name
    frames = read_frames(load_recipe(path))["test"]
    report = json.loads((folder / "evaluation.json").read_text())["errors"]
    errors = evaluate(potential, frames.samples).errors
    assert errors.keys() == report.keys() >= {"energy", "forces"}
    for name, found in errors.items():
        assert found.mae == pytest.approx(report[name]["mae"], rel=1e-3), name
