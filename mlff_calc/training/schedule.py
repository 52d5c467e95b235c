"""Learning rate over a run: linear warm-up by step, then constant or a cosine to a floor at the end of the budget.

    lr(step, p) = lr_max * min(1, (step + 1) / warmup) * [floor + (1 - floor) (1 + cos(pi p)) / 2]

`p` is how much of the budget is used: epochs done over `max_epochs`, minutes over `max_minutes`, or the larger of the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlff_calc.training.recipe_base import OptimizerSection


@dataclass(frozen=True)
class Budget:
    """What ends a run.

    Attributes:
        max_steps: Optimizer steps, or None.
        max_seconds: Seconds spent training and validating, or None.
    """

    max_steps: int | None
    max_seconds: float | None

    @classmethod
    def of(cls, section: OptimizerSection, steps_per_epoch: int) -> Budget:
        """The budget of a recipe."""
        steps = None if section.max_epochs is None else section.max_epochs * steps_per_epoch
        return cls(steps, None if section.max_minutes is None else 60.0 * section.max_minutes)

    def used(self, step: int, seconds: float) -> float:
        """Share of the budget that is used, 0 to 1."""
        by_steps = 0.0 if self.max_steps is None else step / self.max_steps
        by_time = 0.0 if self.max_seconds is None else seconds / self.max_seconds
        return min(1.0, max(by_steps, by_time))


def learning_rate(section: OptimizerSection, step: int, used: float) -> float:
    """Learning rate of optimizer step `step` (from 0) with the share `used` of the budget behind it."""
    warm = 1.0 if section.warmup_steps == 0 else min(1.0, (step + 1) / section.warmup_steps)
    if section.schedule == "constant":
        return section.learning_rate * warm
    cosine = 0.5 * (1.0 + math.cos(math.pi * used))
    return section.learning_rate * warm * (section.floor + (1.0 - section.floor) * cosine)
