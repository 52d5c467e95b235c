"""Actions of a run whose structure leaves the training data."""

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
    """Steps at which a run was outside the training data of its potential, over all parts of the run.

    Attributes:
        n: Number of checks that found the structure outside.
        first_step: Step of the first of these checks.
        first: Description of what was outside at the first of them.
        last_step: Step of the last of these checks.
        last: Description of what was outside at the last of them.
    """

    n: int
    first_step: int
    first: str
    last_step: int
    last: str

    def words(self, step: int) -> str:
        """Return a warning for a run that has reached the given step."""
        when = "the last frame too" if self.last_step == step else f"the last time at step {self.last_step}"
        return (
            f"The structure left the training data, first at step {self.first_step} ({self.first}), {when}. Do not rely on "
            "what follows."
        )


class DomainGuard:
    """Collects the findings of the calculator about structures outside the training data, and warns once per run.

    Args:
        calculator: ASE calculator. Calculators of this package compare structures with the training data by their
            attribute `watch`.
        action: Reaction to a structure outside the training data: ``warn``, ``stop`` or ``off``.
        outside: Findings of earlier parts of the run.

    Attributes:
        outside: Findings of the run so far, None where nothing was outside.

    Raises:
        OptionError: The action is ``stop``, and the calculator does not compare structures with the training data.
    """

    def __init__(self, calculator: Any, action: str, outside: Outside | None) -> None:  # noqa: ANN401
        self._calculator, self._action, self.outside = calculator, action, outside
        watch = getattr(calculator, "watch", None)
        self._watch = watch if getattr(watch, "looks", False) else None
        if action == "stop" and self._watch is None:
            raise OptionError(
                "domain = stop: this calculator does not know the distances in its training data, or does not compare "
                "structures with them (domain='off'). Use warn or off, or a potential trained by this version."
            )
        self._heard: str | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Receive the findings of the calculator inside the `with` block, in place of its own warnings."""
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
        """Drop a finding: with the action `off`, the calculator itself does not warn either."""

    def look(self, atoms: Atoms) -> None:
        """Compare the current structure with the training data now, even where the calculator would skip this step."""
        if self._watch is not None and self._action != "off":
            atoms.get_potential_energy()  # a resumed run that is already complete has not calculated anything yet
            self._calculator.look(atoms)

    def judge(self, step: int, time_ps: float, *, begun: bool) -> str | None:
        """Count the findings since the last call.

        Args:
            step: Current step.
            time_ps: Time of this step, ps.
            begun: Whether the run has begun, so that a frame is saved if it stops.

        Returns:
            Reason to stop the run, with the cure; None where the run continues.
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
                "are a guess there. Further steps are counted in the report; domain = stop ends a run here",
                step, time_ps, found,
            )  # fmt: skip
        return None
