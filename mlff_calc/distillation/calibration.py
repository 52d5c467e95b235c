"""From the spread of students to an error in eV/Angstrom: the bound below which 90 of 100 errors lie.

With few frames the bound is one factor times the spread; with many it is a rising function of it, by isotonic regression
of the quantiles of groups of frames with similar spreads (pool adjacent violators: Ayer and others, Ann. Math. Stat. 26,
641 (1955)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import SimulationError

FloatArray = NDArray[np.float64]
QUANTILE = 0.9
"""Share of errors below the bound."""
GROUP = 20
"""Number of frames in a group, whose quantile is one point of the function. Raising it gives fewer, surer points."""


@dataclass(frozen=True)
class Calibration:
    """A map from spread to the bound of the error.

    Attributes:
        spreads: Spreads of the points, rising, eV/Angstrom.
        bounds: Bounds at these, rising; beyond the last point they grow in proportion.
        n_frames: Number of frames that it was measured on.
    """

    spreads: tuple[float, ...]
    bounds: tuple[float, ...]
    n_frames: int

    def bound(self, spreads: FloatArray) -> FloatArray:
        """Bounds [n] of the errors (eV/Angstrom) at spreads [n]."""
        last = self.bounds[-1] / self.spreads[-1]
        inside = np.interp(spreads, (0.0, *self.spreads), (0.0, *self.bounds))
        found: FloatArray = np.where(spreads > self.spreads[-1], last * spreads, inside)
        return found

    def threshold(self, tolerance: float) -> float:
        """Spread at which the bound reaches a tolerance (eV/Angstrom)."""
        if tolerance > self.bounds[-1]:
            return tolerance * self.spreads[-1] / self.bounds[-1]
        places = (0.0, *self.spreads)
        heights = np.maximum.accumulate((0.0, *self.bounds)) + 1e-12 * np.arange(len(places))
        return float(np.interp(tolerance, heights, places))

    def plain(self) -> dict[str, Any]:
        """As a plain dict."""
        return {"spreads": list(self.spreads), "bounds": list(self.bounds), "n_frames": self.n_frames}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Calibration:
        """The inverse of `plain`."""
        return cls(tuple(plain["spreads"]), tuple(plain["bounds"]), int(plain["n_frames"]))


def calibrate(spreads: Sequence[float] | FloatArray, errors: Sequence[float] | FloatArray) -> Calibration:
    """Measure the map on frames that were never learned.

    Args:
        spreads: Largest spread of a force in each frame, eV/Angstrom.
        errors: Largest error of a force in each frame, eV/Angstrom.

    Raises:
        SimulationError: There are no frames with a spread and an error that are finite.
    """
    spread, error = np.asarray(spreads, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    good = np.isfinite(spread) & np.isfinite(error)
    spread, error = np.maximum(spread[good], 1e-9), error[good]
    if not len(spread):
        raise SimulationError("there are no frames to calibrate on: all spreads or errors are infinite; train for longer")
    if len(spread) < 2 * GROUP:
        factor = _quantile(error / spread)
        middle = float(np.median(spread))
        return Calibration((middle,), (max(factor * middle, 1e-9),), len(spread))
    order = np.argsort(spread, kind="stable")
    groups = np.array_split(order, len(spread) // GROUP)
    places = [float(np.median(spread[group])) for group in groups]
    heights = rising([_quantile(error[group]) for group in groups], [len(group) for group in groups])
    kept = [k for k in range(len(places)) if k == 0 or places[k] > places[k - 1]]
    return Calibration(tuple(places[k] for k in kept), tuple(max(heights[k], 1e-9) for k in kept), len(spread))


def _quantile(values: FloatArray) -> float:
    """Conservative quantile of few values: the next larger one."""
    return float(np.quantile(values, QUANTILE, method="higher"))


def rising(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The rising sequence nearest to values by weighted least squares."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m, j), (b, n, k) = blocks[-2:]
            blocks[-2:] = [((a * m + b * n) / (m + n), m + n, j + k)]
    return [value for value, _, n in blocks for _ in range(n)]


def threshold_in_words(spread: float, tolerance: float, n_frames: int) -> str:
    """What a card says of the spread above which a potential warns.

    Args:
        spread: Threshold, eV/Angstrom.
        tolerance: Accepted error of the worst force of a frame, eV/Angstrom.
        n_frames: Number of frames on which it was measured.
    """
    return (
        f"Threshold: where the largest `forces_std` (length of a row) of a structure is above {spread:.4g} eV/Angstrom, the "
        f"worst force of more than {100 * (1 - QUANTILE):.0f} of 100 such structures is wrong by more than {tolerance:g} "
        f"eV/Angstrom, measured on {n_frames} frames that were not learned: calculators, exported files and `mlff md` warn "
        "there, and stop with `--domain stop`."
    )
