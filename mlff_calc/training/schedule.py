"""Learning rate over a run: linear warm-up by step, then constant or a cosine to a floor at the end of the budget.

    lr(step, p) = lr_max * min(1, (step + 1) / warmup) * [floor + (1 - floor) (1 + cos(pi p)) / 2]

`p` is the used share of the budget: epochs over `max_epochs`, minutes over `max_minutes` or processor minutes over
`max_cpu_minutes`, whichever of those in the recipe is largest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlff_calc.training.recipe_base import OptimizerSection


@dataclass(frozen=True)
class Budget:
    """Limits that end a run.

    Attributes:
        max_steps: Largest number of optimizer steps, or None.
        max_seconds: Longest time spent training and validating, or None.
        max_cpu_seconds: Longest processor time of all threads of the process, or None.
    """

    max_steps: int | None
    max_seconds: float | None
    max_cpu_seconds: float | None = None

    @classmethod
    def of(cls, section: OptimizerSection, steps_per_epoch: int) -> Budget:
        """Read the budget of a recipe."""
        steps = None if section.max_epochs is None else section.max_epochs * steps_per_epoch
        minutes, cpu_minutes = section.max_minutes, section.max_cpu_minutes
        seconds = None if minutes is None else 60.0 * minutes
        return cls(steps, seconds, None if cpu_minutes is None else 60.0 * cpu_minutes)

    @property
    def by_time(self) -> bool:
        """Whether any kind of time ends the run."""
        return self.max_seconds is not None or self.max_cpu_seconds is not None

    def used(self, step: int, seconds: float, cpu_seconds: float = 0.0) -> float:
        """Return the used share of the budget, 0 to 1."""
        limits = ((step, self.max_steps), (seconds, self.max_seconds), (cpu_seconds, self.max_cpu_seconds))
        return min(1.0, max(value / limit for value, limit in limits if limit is not None))


def learning_rate(section: OptimizerSection, step: int, used: float) -> float:
    """Learning rate of optimizer step `step` (from 0) at the used share `used` of the budget."""
    warm = 1.0 if section.warmup_steps == 0 else min(1.0, (step + 1) / section.warmup_steps)
    if section.schedule == "constant":
        return section.learning_rate * warm
    cosine = 0.5 * (1.0 + math.cos(math.pi * used))
    return section.learning_rate * warm * (section.floor + (1.0 - section.floor) * cosine)
