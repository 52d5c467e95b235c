"""What a run does where its structure leaves the training data."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ase import Atoms

from mlff_calc.errors import OptionError

logger = logging.getLogger(__name__)

ACTIONS = ("warn", "stop", "off")


@dataclass
class Outside:
    """Where a run was outside the training data of its potential, over all parts of the run.

    Attributes:
        n: Number of looks that found the structure outside.
        first_step: Step of the first of them.
        first: What was outside then, in words.
        last_step: Step of the last of them.
        last: What was outside then, in words.
    """

    n: int
    first_step: int
    first: str
    last_step: int
    last: str

    def words(self, step: int) -> str:
        """A sentence about a run that has come to a step."""
        when = "the last frame too" if self.last_step == step else f"the last time at step {self.last_step}"
        return (
            f"The structure left the training data, first at step {self.first_step} ({self.first}), {when}. Do not rely on "
            "what follows."
        )


class DomainGuard:
    """Hears from a run's calculator what is outside the training data, counts it, and warns once in a run.

    Args:
        calculator: an ASE calculator; those of this package look, by their `watch`.
        action: ``warn``, ``stop`` or ``off``.
        outside: what earlier parts of the run found.

    Attributes:
        outside: What the run found so far, None where nothing was outside.

    Raises:
        OptionError: ``stop`` with a calculator that does not look.
    """

    def __init__(self, calculator: Any, action: str, outside: Outside | None) -> None:  # noqa: ANN401
        self._calculator, self._action, self.outside = calculator, action, outside
        watch = getattr(calculator, "watch", None)
        self._watch = watch if getattr(watch, "looks", False) else None
        if action == "stop" and self._watch is None:
            raise OptionError(
                "domain = stop: this calculator does not know what distances its training data had, or does not look "
                "(domain='off'). Use warn or off, or a potential whose file says so (trained by this version)."
            )
        self._heard: str | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the place of the calculator's own warnings, inside the `with` block."""
        if self._watch is None:
            yield
            return
        hear = self._ignore if self._action == "off" else self._hear
        before, self._watch.heard = self._watch.heard, hear
        try:
            yield
        finally:
            self._watch.heard = before

    def _hear(self, found: str) -> None:
        self._heard = found

    def _ignore(self, found: str) -> None:
        """With `off` the calculator's own warnings are silent as well."""

    def look(self, atoms: Atoms) -> None:
        """Have the present structure looked at, whether or not it is its turn."""
        if self._watch is not None and self._action != "off":
            atoms.get_potential_energy()  # where a run that is complete is resumed, nothing was calculated yet
            self._calculator.look(atoms)

    def judge(self, step: int, time_ps: float, *, begun: bool) -> str | None:
        """Count what was heard since the last call.

        Args:
            step: the present step.
            time_ps: its time.
            begun: whether the run has begun, so that a frame is saved where it stops.

        Returns:
            Why the run stops, with the cure; None where it goes on.
        """
        found, self._heard = self._heard, None
        if found is None:
            return None
        known = self.outside
        if known is None:
            self.outside = Outside(1, step, found, step, found)
        elif known.last_step != step:
            known.n, known.last_step, known.last = known.n + 1, step, found
        if self._action == "stop":
            cure = "Label the saved frame and train on it, or go on" if begun else "Label it and train on it, or start"
            return f"the structure is outside of what the potential was trained on: {found}. {cure} with domain = warn."
        if known is None:
            logger.warning(
                "step %d (%.4f ps): the structure is outside of what the potential was trained on: %s. Energies and forces "
                "are a guess there. Said once; the report counts, and domain = stop ends a run here", step, time_ps, found
            )  # fmt: skip
        return None
