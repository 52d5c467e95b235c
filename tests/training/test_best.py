"""The saved weights are those of the epoch that the run reports as its best, wherever the run was killed."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mlff_calc.potential import load_potential
from mlff_calc.training import callbacks
from mlff_calc.training.module import TrainingModule
from mlff_calc.training.run import train

Project = Callable[..., Path]


class _StopError(Exception):
    pass


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights at the end of a run."""
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]


def best_of(folder: Path) -> tuple[int, float, dict[str, torch.Tensor]]:
    """Return epoch (from 1), loss and weights of `best.ckpt`."""
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    return best["epoch"] + 1, best["loss"], best["weights"]


@pytest.mark.parametrize("older", [False, True], ids=["checkpoint", "checkpoint without best weights"])
def test_a_better_epoch_that_a_kill_took_away_is_not_shipped(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    """The run is killed between a new best.ckpt and the next last.ckpt, and the resumed run finds no better epoch."""
    path = project(potential__backbone__name="equiformer", optimizer__max_epochs=7, trainer__checkpoint_every=2)
    step, run = TrainingModule.training_step, tmp_path / "run"

    def interrupted(self: TrainingModule, batch: object, batch_idx: int) -> torch.Tensor:
        if self.trainer.current_epoch == 5:
            raise _StopError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupted)
        with pytest.raises(_StopError):
            train(path)
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert (last["epoch"] + 1, last["callbacks"]["Checkpoints"]["best_epoch"] + 1, best_of(run)[0]) == (4, 4, 5)
    lost = best_of(run)
    if older:
        last["callbacks"]["Checkpoints"].pop("best", None)
        torch.save(last, run / "checkpoints" / "last.ckpt")
    else:
        shutil.copytree(run, tmp_path / "same way")
        train(path, output=tmp_path / "same way", resume=True)
        train(path, output=tmp_path / "whole")
        assert best_of(tmp_path / "same way")[:2] == best_of(tmp_path / "whole")[:2]
        assert_same(best_of(tmp_path / "same way")[2], best_of(tmp_path / "whole")[2])
        assert_same(final_weights(tmp_path / "same way"), final_weights(tmp_path / "whole"))
    monkeypatch.setattr(callbacks, "learning_rate", lambda *_: -5e-3)  # the loss increases
    result = train(path, resume=True)
    epoch, loss, weights = best_of(run)
    assert epoch == (5 if older else 4)
    assert json.loads((run / "run.json").read_text())["best_epoch"] == epoch
    losses = [float(row["valid_loss"]) for row in csv.DictReader((run / "metrics.csv").read_text().splitlines())]
    assert min(losses[4:]) > losses[3]
    assert loss == (lost[1] if older else pytest.approx(losses[3], rel=1e-6))
    shipped = dict(load_potential(result.model).named_parameters())
    assert_same({name: value.detach() for name, value in shipped.items()}, weights)
