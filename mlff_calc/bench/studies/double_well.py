"""How far forces repair biased data: a double well in one dimension, with exact fields in place of a network.

The energy is B (x^2/a^2 - 1)^2 in kT, with wells at -a and a that are equally populated. Of the training data a share of 0.9
lies on the left. The regression of a target at noise s gives its posterior mean over the biased density p~,

    S(x, s) = E[l(s) (-U'(x_0)) + (1 - l(s)) (x_0 - x)/s^2 | x],      x_0 ~ p~, x = x_0 + s eps,

which is computed by quadrature, and structures are drawn with it by the reverse diffusion.

Source: Guo et al., "Potential score matching" (2025), for the target; the experiment is our own.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlff_calc.score import Schedule, Target

FloatArray = NDArray[np.float64]
WELL = 1.5
SHARE = 0.9
SIGMAS = (0.02, 6.0)


def forces(x: FloatArray, barrier: float) -> FloatArray:
    """-U'(x) for a barrier in kT."""
    return -4.0 * barrier * (x**2 / WELL**2 - 1.0) * x / WELL**2


def biased_density(x: FloatArray, barrier: float) -> FloatArray:
    """Density of the training data on an even grid."""
    density: FloatArray = np.exp(-barrier * (x**2 / WELL**2 - 1.0) ** 2)
    density = density * np.where(x < 0.0, SHARE, 1.0 - SHARE)
    return density / density.sum()


def left_share(
    barrier: float, target: str, window: float | None = None, *, n: int = 20_000, steps: int = 200, seed: int = 0
) -> float:
    """Share of drawn values on the left.

    Args:
        barrier: Barrier B, kT.
        target: Name of a target, see `Target`.
        window: Noise below which `piecewise` takes forces.
        n: Number of values.
        steps: Number of steps.
        seed: Seed of the draw.
    """
    grid = np.linspace(-4.0, 4.0, 801)
    density = biased_density(grid, barrier)
    slopes = forces(grid, barrier)
    mixture = Target(target, float((density * slopes**2).sum()), window)
    levels = Schedule(*SIGMAS).grid(steps)
    shares = mixture.share(levels[:-1]).numpy()
    random = np.random.default_rng(seed)
    values = random.normal(size=n) * np.sqrt(SIGMAS[1] ** 2 + WELL**2)
    mean = (density * grid).sum()
    values += mean
    for (high, low), share in zip(pairwise(levels.tolist()), shares, strict=True):
        places = np.linspace(grid[0] - 6.0 * high, grid[-1] + 6.0 * high, 401)
        field = np.interp(values, places, _field(places, grid, density, slopes, high, float(share)))
        width = high**2 - low**2
        values = values + width * field + np.sqrt(width) * random.normal(size=n)
    return float((values < 0.0).mean())


def _field(
    places: FloatArray, grid: FloatArray, density: FloatArray, slopes: FloatArray, sigma: float, share: float
) -> FloatArray:
    """Posterior mean of the target at places."""
    log_weights = -((places[:, None] - grid) ** 2) / (2.0 * sigma**2) + np.log(density + 1e-300)
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    denoising = (weights @ grid - places) / sigma**2
    field: FloatArray = share * (weights @ slopes) + (1.0 - share) * denoising
    return field


COLUMNS: tuple[tuple[str, str, float | None], ...] = (
    ("DSM", "dsm", None),
    ("optimal", "optimal", None),
    *((f"forces below {window:g}", "piecewise", window) for window in (0.5, 1.0, 2.0, 4.0)),
)


def table(barriers: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0), seed: int = 0) -> list[dict[str, float]]:
    """Shares on the left by barrier and target; 0.5 is right, and 0.9 that of the data."""
    return [
        {"barrier": barrier} | {name: left_share(barrier, target, window, seed=seed) for name, target, window in COLUMNS}
        for barrier in barriers
    ]
