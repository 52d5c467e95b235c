"""The time that is left of a budget."""

from __future__ import annotations

import math
import time


class Clock:
    """A budget of time, which begins when the clock is made.

    Args:
        minutes: The budget; None for no limit.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self._begin = time.monotonic()
        self._seconds = math.inf if minutes is None else 60.0 * minutes

    @property
    def is_limited(self) -> bool:
        """Whether there is a budget."""
        return self._seconds < math.inf

    def left(self, share: float = 1.0) -> float:
        """Seconds that are left of a share of the budget, negative where it is used up, infinite without one."""
        return share * self._seconds - (time.monotonic() - self._begin)

    def late(self, share: float = 1.0) -> bool:
        """Whether a share of the budget is used up."""
        return self.left(share) < 0.0
