"""Learning-rate schedule for peers that are trained with a time budget.

The schedules of the peers count epochs, whose number within the budget depends on the machine. This schedule follows the
processor time of the process instead, so that every training ends at a low rate, also on a busy machine. The module is
imported in the environment of a peer and needs only torch.
"""

from __future__ import annotations

import math
import time

import torch


class TimedCosine(torch.optim.lr_scheduler.LRScheduler):
    """Schedule with a warm-up over the first part of the budget, then a cosine decay to 1 % of the optimizer's rate.

    The clock starts with the end of the first step, so that compilation does not count.

    Args:
        optimizer: Optimizer whose learning rates are set.
        minutes: Budget in processor minutes.
        warm_up: Fraction of the budget for the warm-up; 0 starts at the full rate.
        last_epoch: Counter of steps of torch.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, minutes: float, warm_up: float = 0.01, last_epoch: int = -1
    ) -> None:
        self.seconds = 60.0 * minutes
        self.warm_up = warm_up
        self.started: float | None = None
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the current learning rates."""
        if self.last_epoch >= 1 and self.started is None:
            self.started = time.process_time()
        passed = 0.0 if self.started is None else min((time.process_time() - self.started) / self.seconds, 1.0)
        warm = min(1.0, 0.01 + passed / self.warm_up) if self.warm_up > 0.0 else 1.0
        factor = warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * passed)))
        return [base * factor for base in self.base_lrs]
