"""A learning-rate schedule that fits a time budget, for peers that are trained for a given number of minutes.

A peer's own schedule counts epochs, and how many of those fit into the budget depends on the machine; this one follows the
processor time of the process, so that every peer ends its training at a low rate and a busy machine shortens none. It is
imported in a peer's environment: torch only.
"""

from __future__ import annotations

import math
import time

import torch


class TimedCosine(torch.optim.lr_scheduler.LRScheduler):
    """Warm up over a first share of the budget, then fall as a cosine to 1 % of the optimizer's rate.

    The clock starts with the first step that is taken, so that compilation does not count.

    Args:
        optimizer: the optimizer whose learning rates are set.
        minutes: the budget, in processor minutes.
        warm_up: share of the budget; 0 starts at the full rate.
        last_epoch: torch's counter of steps taken.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, minutes: float, warm_up: float = 0.01, last_epoch: int = -1
    ) -> None:
        self.seconds = 60.0 * minutes
        self.warm_up = warm_up
        self.started: float | None = None
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Rates at this moment."""
        if self.last_epoch >= 1 and self.started is None:
            self.started = time.process_time()
        passed = 0.0 if self.started is None else min((time.process_time() - self.started) / self.seconds, 1.0)
        warm = min(1.0, 0.01 + passed / self.warm_up) if self.warm_up > 0.0 else 1.0
        factor = warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * passed)))
        return [base * factor for base in self.base_lrs]
