"""End of training after a time budget, for peers that use Lightning; imported in the environment of a peer."""

from __future__ import annotations

import time
from typing import Any

import lightning


class EndOfBudget(lightning.Callback):
    """Callback that ends a training when its processor time, counted from the end of the first step, exceeds the budget.

    Args:
        minutes: Budget in processor minutes, summed over all threads of the process.
    """

    def __init__(self, minutes: float) -> None:
        self.seconds = 60.0 * minutes
        self.started: float | None = None

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """Check the processor time."""
        del args, kwargs
        if self.started is None:
            self.started = time.process_time()
        if time.process_time() - self.started > self.seconds:
            trainer.should_stop = True
