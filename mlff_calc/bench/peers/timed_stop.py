"""The end of a time budget for peers that train with Lightning; it is imported in a peer's environment."""

from __future__ import annotations

import time
from typing import Any

import lightning


class EndOfBudget(lightning.Callback):
    """Ends a training when its processor minutes are used up, counted from the end of the first step on.

    Args:
        minutes: Budget, in processor minutes of all threads of the process.
    """

    def __init__(self, minutes: float) -> None:
        self.seconds = 60.0 * minutes
        self.started: float | None = None

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """Look at the clock."""
        del args, kwargs
        if self.started is None:
            self.started = time.process_time()
        if time.process_time() - self.started > self.seconds:
            trainer.should_stop = True
