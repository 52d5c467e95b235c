"""Trainings whose network loses what it had learnt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlff_calc.errors import TrainingError
from mlff_calc.potential import load_potential
from mlff_calc.training.metrics import read_metrics
from mlff_calc.training.module import TrainingModule
from mlff_calc.training.run import train

Project = Callable[..., Path]

# The rate grows from zero past all bounds: the network learns in the first epochs and is destroyed afterwards.
RISING = {
    "optimizer__learning_rate": 1.0,
    "optimizer__warmup_steps": 120,
    "optimizer__max_epochs": 200,
    "optimizer__gradient_clip": None,
    "optimizer__ema_decay": None,
    "optimizer__schedule": "constant",
}


def test_a_collapsed_training_ends_with_its_best_weights(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = train(project(**RISING))
    rows = read_metrics(result.folder / "metrics.csv")
    losses = [float(row["train_loss"]) for row in rows]
    assert len(losses) < 200
    assert min(losses) < 0.5 * losses[0] < losses[0] < min(losses[-5:])
    assert losses[-6] <= losses[0]
    said = next(record.getMessage() for record in caplog.records if "collapsed" in record.getMessage())
    validated = [float(row["valid_loss"]) for row in rows]
    assert f"in epoch {len(rows) - 4}:" in said
    assert f"the weights of epoch {validated.index(min(validated)) + 1}," in said
    assert "learning_rate (1) or set a gradient_clip" in said
    load_potential(result.model)


def test_a_collapse_before_any_validation_is_an_error(project: Project) -> None:
    with pytest.raises(TrainingError, match=r"collapsed in epoch \d+: .* not validated before, .* lower optimizer"):
        train(project(**RISING, trainer__validate_every=150))


def test_a_training_that_recovers_goes_on(project: Project) -> None:
    path = project(**{**RISING, "optimizer__learning_rate": 0.005, "optimizer__max_epochs": 12})
    result = train(path)
    assert len(read_metrics(result.folder / "metrics.csv")) == 12


def test_a_resumed_training_remembers_the_first_loss(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(project(**RISING))
    losses = [row["train_loss"] for row in read_metrics(whole.folder / "metrics.csv")]
    stop = 3 * (len(losses) - 2)  # steps; two of the epochs above the first loss are left
    kept = TrainingModule.training_step

    def interrupted(self: TrainingModule, batch: Any, batch_idx: int) -> Any:
        if self.global_step == stop:
            raise KeyboardInterrupt
        return kept(self, batch, batch_idx)

    path = project(**RISING, output="stopped", trainer__checkpoint_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(path)
    result = train(path, resume=True)
    assert [row["train_loss"] for row in read_metrics(result.folder / "metrics.csv")] == losses
