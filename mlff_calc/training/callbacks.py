"""Lightning callbacks: averaged weights, learning rate and budget, checkpoints, metrics, early stop."""

from __future__ import annotations

import csv
import io
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from mlff_calc.training.checkpoint_files import check_optimizer, save_tensors
from mlff_calc.training.layers import FACTOR
from mlff_calc.training.metrics import read_metrics
from mlff_calc.training.module import TrainingModule
from mlff_calc.training.recipe_base import OptimizerSection
from mlff_calc.training.schedule import Budget, learning_rate
from mlff_calc.whole_files import write_whole

SYNC_TIME_EVERY = 10  # number of steps between synchronizations of the used time among processes


class AveragedWeights(pl.Callback):
    """Exponential moving average of the weights, which validation and the result use.

    The decay grows as (1 + n) / (10 + n) with the number n of updates until it reaches `decay`.

    Args:
        decay: Final decay per step; None turns averaging off.
    """

    def __init__(self, decay: float | None) -> None:
        self.decay = decay
        self.updates = 0
        self.average: list[Tensor] = []
        self._kept: list[Tensor] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start from the present weights, unless a checkpoint provided an average."""
        del trainer, stage
        if self.decay is not None and not self.average:
            self.average = [p.detach().clone() for p in _parameters(pl_module)]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the average to the device of the weights."""
        del trainer
        self.average = [a.to(p.device) for a, p in zip(self.average, _parameters(pl_module), strict=False)]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Average after each optimizer step."""
        del trainer, args, kwargs
        if self.decay is None:
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in _parameters(pl_module)], 1.0 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place of the weights (same storage, so that compiled code sees it)."""
        del trainer
        self.swap_in(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back."""
        del trainer
        self.swap_out(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Put the weights back where validation was interrupted."""
        del trainer, exception
        self.swap_out(pl_module)

    def swap_in(self, module: pl.LightningModule) -> None:
        """Replace the module's weights by the average, and keep the weights aside."""
        if self.decay is None or self._kept is not None:
            return
        parameters = [p.data for p in _parameters(module)]
        self._kept = [p.clone() for p in parameters]
        torch._foreach_copy_(parameters, self.average)

    def swap_out(self, module: pl.LightningModule) -> None:
        """Undo `swap_in`."""
        if self._kept is not None:
            torch._foreach_copy_([p.data for p in _parameters(module)], self._kept)
            self._kept = None

    def state_dict(self) -> dict[str, Any]:
        """The average, and the number of updates in it."""
        return {"updates": self.updates, "average": list(self.average)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a saved average."""
        self.updates, self.average = state_dict["updates"], list(state_dict["average"])


def _parameters(module: TrainingModule) -> list[torch.nn.Parameter]:
    return list(module.network.parameters())


class BudgetKeeper(pl.Callback):
    """Sets the learning rate before each step, and ends the run when the budget is used up.

    Time is counted from the end of the first step (set-up and compilation do not count), over all resumed parts of a
    run. Processor time is that of all threads of the process, so a busy machine does not shorten a run.

    Args:
        section: The `optimizer` section of the recipe.
        budget: Limits of the run.

    Attributes:
        rate: Learning rate of the last step.
    """

    def __init__(self, section: OptimizerSection, budget: Budget) -> None:
        self.section, self.budget = section, budget
        self.rate = 0.0
        self._started: tuple[float, float] | None = None
        self._before = (0.0, 0.0)
        self._agreed = (0.0, 0.0)

    def now(self) -> tuple[float, float]:
        """Seconds and processor seconds used so far, by all parts of the run."""
        if self._started is None:
            return self._before
        (before, cpu_before), (started, cpu_started) = self._before, self._started
        return before + time.monotonic() - started, cpu_before + time.process_time() - cpu_started

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Set the learning rate of this step."""
        del args
        self._agree(trainer, pl_module)
        self.rate = learning_rate(self.section, trainer.global_step, self.used(trainer))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rate * group.get(FACTOR, 1.0)  # checkpoints of earlier versions have no factors

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Ask the trainer to stop, after a last validation, when the budget is used up."""
        del pl_module, args, kwargs
        if self._started is None:  # the first step compiles and warms up
            self._started = (time.monotonic(), time.process_time())
        if self.used(trainer) >= 1.0:
            trainer.should_stop = True
            trainer.check_val_every_n_epoch = 1  # validate even if `validate_every` skips this epoch

    def used(self, trainer: pl.Trainer) -> float:
        """Share of the budget that is used."""
        return self.budget.used(trainer.global_step, *self._agreed)

    def _agree(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Use the time of the first process in all processes, so that their weights stay the same."""
        if not self.budget.by_time or trainer.world_size == 1:
            self._agreed = self.now()
        elif trainer.global_step % SYNC_TIME_EVERY == 0:
            del module
            self._agreed = trainer.strategy.broadcast(self.now())

    def state_dict(self) -> dict[str, Any]:
        """Time used."""
        seconds, cpu_seconds = self.now()
        return {"seconds": seconds, "cpu_seconds": cpu_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting from a saved time."""
        seconds = state_dict["seconds"]
        cpu_seconds = state_dict.get("cpu_seconds", seconds)  # checkpoints of earlier versions lack cpu_seconds
        self._before = self._agreed = (seconds, cpu_seconds)


class Checkpoints(pl.Callback):
    """Writes `last.ckpt` at the end of an epoch, and `best.ckpt` with the averaged weights when validation improved.

    Checkpoints are written only at the end of an epoch: a killed run repeats its last epoch with the same order of
    frames and reaches the same weights. `last.ckpt` holds weights, average, optimizer, counters, time used and random
    states, and also the best weights. If a run is killed after a better `best.ckpt` but before the next `last.ckpt`,
    the resumed run may take another course (its learning rate depends on time), so `fit` resets `best.ckpt` to the
    state in `last.ckpt`.

    Args:
        folder: Folder of the checkpoints.
        every: Number of epochs between two `last.ckpt`; one is always written at the end.
        patience: Number of validations without improvement after which the run ends; None for never.
        averaged: Callback that holds the averaged weights.

    Attributes:
        restored: Whether a checkpoint has been restored completely.
        trusted: Whether weights may be the best ones; not while the loss is that of a collapse, see `CollapseWatch`.
    """

    def __init__(self, folder: Path, every: int, patience: int | None, averaged: AveragedWeights) -> None:
        self.folder, self.every, self.patience, self.averaged = folder, every, patience, averaged
        self.best_loss = math.inf
        self.best_epoch = -1
        self.yardstick = 0
        self.stale = 0
        self.ended = False
        self.best: dict[str, Any] | None = None
        self.restored = False
        self.trusted = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the restored state of the optimizer, which nothing else checks."""
        del pl_module
        for optimizer in trainer.optimizers:
            check_optimizer(self.folder / "last.ckpt", optimizer)
        self.restored = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:
        """Compare with the best validation so far that was measured against the same."""
        if pl_module.objective.yardstick() != self.yardstick:
            self.yardstick, self.best_loss, self.stale = pl_module.objective.yardstick(), math.inf, 0
        if pl_module.valid_loss < self.best_loss and self.trusted:
            self.best_loss, self.best_epoch, self.stale = pl_module.valid_loss, trainer.current_epoch, 0
            self.best = self._best_of(pl_module)
            if trainer.is_global_zero:
                save_tensors(self.best, self.folder / "best.ckpt")
        else:
            self.stale += 1
            if self.patience is not None and self.stale >= self.patience:
                trainer.should_stop = True

    def _best_of(self, module: TrainingModule) -> dict[str, Any]:
        names = [name for name, _ in module.network.named_parameters()]
        averaged = self.averaged.decay is not None
        weights = self.averaged.average if averaged else [p.detach() for p in module.network.parameters()]
        kept = [weight.to("cpu", copy=True) for weight in weights]  # training goes on with the others
        return {"weights": dict(zip(names, kept, strict=True)), "epoch": self.best_epoch, "loss": self.best_loss}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:
        """Write `last.ckpt` where it is due; values that are not finite are never written."""
        pl_module.finite.check()
        self.ended = trainer.should_stop
        if (trainer.current_epoch + 1) % self.every == 0 or self.ended:
            trainer.save_checkpoint(self.folder / "last.ckpt")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of the random generators."""
        del trainer, pl_module
        checkpoint["random"] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            checkpoint["random"]["cuda"] = torch.cuda.get_rng_state_all()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Set the random generators to the saved states."""
        del trainer, pl_module
        torch.set_rng_state(checkpoint["random"]["cpu"].cpu())
        if "cuda" in checkpoint["random"] and torch.cuda.is_available():
            with suppress(RuntimeError):  # the number of devices may differ
                torch.cuda.set_rng_state_all([state.cpu() for state in checkpoint["random"]["cuda"]])

    def state_dict(self) -> dict[str, Any]:
        """State that decides about the best epoch and the end of the run."""
        names = ("best_loss", "best_epoch", "yardstick", "stale", "ended", "best")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a saved state."""
        self.best_loss, self.best_epoch = state_dict["best_loss"], state_dict["best_epoch"]
        self.stale, self.best = state_dict["stale"], state_dict["best"]
        self.yardstick = state_dict.get("yardstick", 0)  # checkpoints of earlier versions lack it


class MetricsFile(pl.Callback):
    """Writes one row per epoch to `metrics.csv`; after a resume, rows beyond the checkpoint are dropped.

    Columns of a validation are empty in epochs without one.

    Args:
        path: File to write.
        keeper: Callback that knows time and learning rate.
    """

    COLUMNS = ("epoch", "step", "minutes", "cpu_minutes", "learning_rate", "train_loss", "valid_loss")

    def __init__(self, path: Path, keeper: BudgetKeeper) -> None:
        self.path, self.keeper = path, keeper
        self.rows: list[dict[str, str]] = []
        self._epochs_before = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the rows of the epochs that the checkpoint holds."""
        del pl_module
        if trainer.is_global_zero and self.path.is_file() and trainer.current_epoch > 0:
            self.rows = [row for row in read_metrics(self.path) if int(row["epoch"]) <= trainer.current_epoch]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:
        """Add a row."""
        train_loss = pl_module.take_train_loss()
        if not trainer.is_global_zero:
            return
        seconds, cpu_seconds = self.keeper.now()
        row = {
            "epoch": str(trainer.current_epoch + 1),
            "step": str(trainer.global_step),
            "minutes": f"{seconds / 60.0:.4f}",
            "cpu_minutes": f"{cpu_seconds / 60.0:.4f}",
            "learning_rate": f"{self.keeper.rate:.6g}",
            "train_loss": f"{train_loss:.8g}",
        }
        if pl_module.validated_epoch == trainer.current_epoch:
            row["valid_loss"] = f"{pl_module.valid_loss:.8g}"
        row |= pl_module.metrics()
        self.rows.append(row)
        self._write()

    def _write(self) -> None:
        columns = list(dict.fromkeys([*self.COLUMNS, *(key for row in self.rows for key in row)]))
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_whole(self.path, stream.getvalue())
