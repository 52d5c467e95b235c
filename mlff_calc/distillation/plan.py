"""What a budget buys: a few labels and steps of training are timed, and numbers follow that stay as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlff_calc.distillation.recipe import DistillationRecipe
from mlff_calc.distillation.sections import LEAST_LABELS
from mlff_calc.errors import OptionError

MOST_LABELS = 5000
"""Largest number of labels where none is given."""
LABELLING, TRAINING, EXPLORING = 0.35, 0.45, 0.2
"""Shares of the time of the rounds."""
PASSES = 20
"""Smallest number of passes of the last training over the labels. Raising it makes fewer labels where they are cheap."""
FIRST = 0.3
"""Share of the labels in round 0."""
AUDIT = 0.1
"""Share of the labels of a round that are drawn at random."""
LEAST_AUDIT = 4
"""Smallest number of these in a round."""
LEAST_STEPS = 20
"""Smallest number of steps of a training."""
USUAL_STEPS = 500
"""Number of steps of a student in a round where no time is given."""
FINAL_FACTOR = 10
"""Times as many steps in the last training where no time is given."""


@dataclass(frozen=True)
class Plan:
    """Numbers of a run.

    Attributes:
        labels: Number of labels.
        first: Number of labels in round 0.
        batch: Number of frames in a later round, chosen by their errors.
        audit: Number of frames in a later round, drawn at random.
        rounds: Number of later rounds.
        steps: Number of steps of a student in a round.
        md_steps: Number of steps of a trajectory.
        final_steps: Number of steps of the last training; None for the rest of the time.
        label_seconds: Time for a label, s.
        step_seconds: Time for a step of a training, s.
    """

    labels: int
    first: int
    batch: int
    audit: int
    rounds: int
    steps: int
    md_steps: int
    final_steps: int | None
    label_seconds: float
    step_seconds: float

    def plain(self) -> dict[str, Any]:
        """As a plain dict."""
        return asdict(self)

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Plan:
        """The inverse of `plain`."""
        return cls(**plain)

    def within(self, spent: float, left: float) -> Plan:
        """The plan with as many steps of training as fit into a round, where they took longer than planned; never with more.

        Args:
            spent: Seconds that the trainings of a round took.
            left: Seconds that are left for a round.
        """
        share = TRAINING / (TRAINING + EXPLORING + LABELLING)
        if spent <= share * left:
            return self
        return replace(self, steps=max(LEAST_STEPS, math.floor(self.steps * share * left / spent)))

    def told(self, recipe: DistillationRecipe) -> str:
        """In words."""
        minutes, k = recipe.budget.minutes, recipe.student.committee
        share = f"the rest of the time, at least {recipe.budget.final:.0%},"
        last = f"{self.final_steps} steps" if self.final_steps else share
        rounds = f"{self.rounds} round{'s' * (self.rounds > 1)} of {self.batch} and {self.audit} for the audit"
        later = f", then at most {rounds}" if self.rounds else ""
        begin = "" if minutes is None else f"In {minutes:g} minutes: "
        return (
            f"A label takes {_time(self.label_seconds)}, a step of a training {_time(self.step_seconds)}. {begin}about "
            f"{self.labels} labels ({self.first} at first{later}); {k} student{'s' if k > 1 else ''} of "
            f"{self.steps} steps and "
            f"trajectories of {self.md_steps} steps in each round; {last} for the last training."
        )


def planned(recipe: DistillationRecipe, label_seconds: float, step_seconds: float, judge_seconds: float) -> Plan:
    """Make the plan of a recipe.

    Args:
        recipe: Recipe.
        label_seconds: Time for a label, s.
        step_seconds: Time for a step of a training, s.
        judge_seconds: Time for an evaluation of one structure by one student, s.

    Raises:
        OptionError: Fewer labels fit into the time than a potential needs.
    """
    budget, student = recipe.budget, recipe.student
    workers, k = recipe.label.workers, student.committee
    time = math.inf if budget.minutes is None else 60.0 * budget.minutes * (1.0 - budget.final)
    fit = math.inf if time == math.inf else math.floor(workers * time / label_seconds)
    if fit < LEAST_LABELS:
        needed = LEAST_LABELS * label_seconds / (workers * 60.0 * (1.0 - budget.final))
        raise OptionError(
            f"the budget of {budget.minutes:g} minutes is too small: a label takes {_time(label_seconds)}, so that "
            f"{fit} labels "
            f"fit beside the last training, and a potential needs at least {LEAST_LABELS}; give more than "
            f"{needed:.3g} minutes, "
            "more label.workers, or a faster teacher"
        )
    n = min(MOST_LABELS if budget.labels is None else budget.labels, LABELLING * workers * time / label_seconds)
    if budget.minutes is not None and budget.labels is None:
        n = min(n, 60.0 * budget.minutes * budget.final / step_seconds * recipe.batch_size / PASSES)
    labels = max(LEAST_LABELS, math.floor(n))
    first = labels if budget.rounds == 0 else max(2 * LEAST_AUDIT, round(FIRST * labels))
    rounds = min(budget.rounds, (labels - first) // (2 * LEAST_AUDIT))
    each = (labels - first) // rounds if rounds else 0
    audit = max(LEAST_AUDIT, round(AUDIT * each)) if rounds else 0
    steps, md_steps = student.steps, recipe.explore.steps
    if steps is None:
        steps = USUAL_STEPS
        if time < math.inf:
            steps = max(LEAST_STEPS, math.floor(TRAINING * time / ((rounds + 1) * k * step_seconds)))
    if time < math.inf and rounds:
        one = k * judge_seconds * recipe.explore.replicas * 4 / 3
        md_steps = min(md_steps, max(recipe.explore.every, math.floor(EXPLORING * time / rounds / one)))
    final_steps = student.final_steps
    if final_steps is None and time == math.inf:
        final_steps = FINAL_FACTOR * steps
    return Plan(
        labels, first, each - audit, audit, rounds, steps, md_steps, final_steps, round(label_seconds, 6),
        round(step_seconds, 6)
    )


def _time(seconds: float) -> str:
    """A time with its unit."""
    return f"{1000.0 * seconds:.3g} ms" if seconds < 1.0 else f"{seconds:.3g} s"
