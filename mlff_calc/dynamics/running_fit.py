"""Linear fit that is updated point by point."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class RunningFit:
    """Linear fit to points (time, energy) that are added one at a time, stored as means and centred sums.

    Means and centred sums are updated with each point by Welford's method, which avoids cancellation in long runs.

    Attributes:
        n: Number of points.
        mean_t: Mean time, ps.
        mean_e: Mean energy, eV.
        s_tt: Sum of squared deviations of the time, ps^2.
        s_te: Sum of products of the deviations of time and energy, ps eV.
    """

    n: int = 0
    mean_t: float = 0.0
    mean_e: float = 0.0
    s_tt: float = 0.0
    s_te: float = 0.0

    def add(self, t: float, e: float) -> None:
        """Add a point."""
        self.n += 1
        dt = t - self.mean_t
        self.mean_t += dt / self.n
        self.mean_e += (e - self.mean_e) / self.n
        self.s_tt += dt * (t - self.mean_t)
        self.s_te += dt * (e - self.mean_e)

    def slope(self) -> float:
        """Return the slope, eV/ps; NaN with fewer than two points."""
        return self.s_te / self.s_tt if self.n > 1 and self.s_tt > 0.0 else math.nan
