"""A straight line through points that come one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class RunningFit:
    """Straight line through (time, energy) points that come one by one, kept as means and sums about them.

    Welford's update: means and centred sums change with each point, so nothing cancels in long runs.

    Attributes:
        n: number of points.
        mean_t: mean time, ps.
        mean_e: mean energy, eV.
        s_tt: sum of squared deviations of time.
        s_te: sum of products of the deviations.
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
        """Slope; NaN with fewer than two points."""
        return self.s_te / self.s_tt if self.n > 1 and self.s_tt > 0.0 else math.nan
