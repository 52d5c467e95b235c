"""Averages of correlated series, and slopes with errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mlff_calc.errors import OptionError


class Slope(NamedTuple):
    """Slope of a line, its standard error (for independent residuals) and the value of the line at zero."""

    slope: float
    error: float
    intercept: float


def linear_fit(x: np.ndarray, y: np.ndarray) -> Slope:
    """Fit a line to points by least squares.

    Args:
        x: Abscissae, [n].
        y: Ordinates, [n].

    Returns:
        Slope, its standard error (NaN for two points) and the intercept.

    Raises:
        OptionError: There are fewer than two different abscissae.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    dx = x - x.mean() if len(x) else x
    spread = float(dx @ dx)
    if len(x) < 2 or spread == 0.0:
        raise OptionError(f"a line needs two different points, got {len(x)}. Give a longer series.")
    slope = float(dx @ (y - y.mean())) / spread
    residuals = y - y.mean() - slope * dx
    error = math.sqrt(float(residuals @ residuals) / (len(x) - 2) / spread) if len(x) > 2 else math.nan
    return Slope(slope, error, float(y.mean() - slope * x.mean()))


def mean_with_error(values: np.ndarray, n_blocks: int = 10) -> tuple[float, float]:
    """Compute the mean of a correlated series, and its standard error from block averages.

    Args:
        values: Series, [n].
        n_blocks: Number of blocks; each block should be longer than the correlation time.

    Returns:
        Mean and standard error. The error is NaN if the series is too short for two values per block.

    Raises:
        OptionError: The series is empty.

    Source:
        H. Flyvbjerg, H. G. Petersen, J. Chem. Phys. 91, 461 (1989).
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        raise OptionError("the mean of no values does not exist. Give a longer series.")
    length = len(values) // n_blocks
    if length < 2:
        return float(values.mean()), math.nan
    blocks = values[len(values) - n_blocks * length :].reshape(n_blocks, length).mean(axis=1)
    return float(values.mean()), float(blocks.std(ddof=1) / math.sqrt(n_blocks))
