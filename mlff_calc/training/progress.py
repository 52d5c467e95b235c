"""Progress of a run: a live bar on a terminal, otherwise a log line now and then."""

from __future__ import annotations

import logging
import math
import time

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from mlff_calc.training.callbacks import BudgetKeeper, Checkpoints
from mlff_calc.training.module import TrainingModule

logger = logging.getLogger(__name__)
REDRAW_EVERY = 0.5  # least time between two drawings, seconds
LOG_EVERY = 10.0  # least time between two log lines, seconds


class ProgressReport(pl.Callback):
    """Shows epoch, validation errors and remaining time, without making a step wait for the device.

    Args:
        keeper: Callback that knows the used share of the budget.
        checkpoints: Callback that knows the best epoch.
        max_epochs: Number of epochs to show, where the recipe gives it.
        show_bar: Whether to draw a bar where standard error is a terminal.
    """

    def __init__(
        self, keeper: BudgetKeeper, checkpoints: Checkpoints, max_epochs: int | None, *, show_bar: bool
    ) -> None:
        self.keeper, self.checkpoints, self.max_epochs = keeper, checkpoints, max_epochs
        self.show_bar = show_bar
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._drawn = self._logged = -math.inf
        self._first: tuple[float, float] | None = None
        self._errors = ""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar."""
        del pl_module
        console = Console(stderr=True)
        if not (self.show_bar and trainer.is_global_zero and console.is_terminal):
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rest]}"),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("training", total=1.0, rest="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """Redraw at most twice a second."""
        del pl_module, args
        now = time.monotonic()
        used = self.keeper.used(trainer)
        if self._first is None:
            self._first = (now, used)
        if self._bar is not None and self._task is not None and now - self._drawn > REDRAW_EVERY:
            self._drawn = now
            text = f"epoch {self._epoch(trainer)} {self._errors}"
            self._bar.update(self._task, completed=used, description=text, rest=self._remaining(now, used))
            self._bar.refresh()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:
        """Store the errors of the validation, and log a line where there is no bar."""
        self._errors = pl_module.validation_text()
        now = time.monotonic()
        used = self.keeper.used(trainer)
        if self._bar is None and trainer.is_global_zero and (now - self._logged > LOG_EVERY or used >= 1.0):
            self._logged = now
            best = self.checkpoints.best_epoch + 1
            rest = self._remaining(now, used)
            logger.info("epoch %s: %s; best epoch %d; %s", self._epoch(trainer), self._errors, best, rest)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        del trainer, pl_module
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the message gets its own line."""
        del trainer, pl_module, exception
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _epoch(self, trainer: pl.Trainer) -> str:
        return str(trainer.current_epoch + 1) + (f"/{self.max_epochs}" if self.max_epochs else "")

    def _remaining(self, now: float, used: float) -> str:
        if self._first is None or used <= self._first[1]:
            return ""
        seconds = (now - self._first[0]) / (used - self._first[1]) * (1.0 - used)
        minutes, seconds = divmod(round(seconds), 60)
        return f"{minutes} min {seconds:02d} s left"
