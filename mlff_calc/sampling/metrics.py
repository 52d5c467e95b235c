"""Distances between ensembles: total variation, Jensen-Shannon, Wasserstein, with the noise of a finite number of samples.

Histograms have their edges from the reference. What lies outside counts in the outermost bins, so that nothing is lost.

- Total variation: half the sum of the differences of two histograms, from 0 to 1.
- Jensen-Shannon divergence: mean of both relative entropies to the mean histogram, base e, from 0 to ln 2.
- W1: the area between the distribution functions, in the unit of the values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import OptionError
from mlff_calc.sampling.systems import FloatArray

BINS = 200
Metric = Callable[[FloatArray, FloatArray], float]
"""Function from reference and other values to their distance."""


def histograms(
    reference: FloatArray,
    other: FloatArray,
    weights: FloatArray | None = None,
    *,
    bins: int = BINS,
    span: tuple[float, float] | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Normalized histograms [bins] of both.

    Args:
        reference: Values [n]; the edges run from the smallest to the largest.
        other: Values [m].
        weights: Weights of `other` [m]; None for equal ones.
        bins: Number of bins.
        span: First and last edge in place of those of the reference.

    Raises:
        OptionError: There are no values, or they are not finite.
    """
    if not (len(reference) and len(other) and np.isfinite(reference).all() and np.isfinite(other).all()):
        raise OptionError("there are no values to compare, or some are not finite")
    low, high = span or (float(reference.min()), float(reference.max()))
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    one, _ = np.histogram(np.clip(reference, edges[0], edges[-1]), edges)
    two, _ = np.histogram(np.clip(other, edges[0], edges[-1]), edges, weights=weights)
    return one / one.sum(), two / two.sum()


def total_variation(
    reference: FloatArray, other: FloatArray, weights: FloatArray | None = None, *, bins: int = BINS
) -> float:
    """Total variation of the histograms of values [n] and [m]."""
    one, two = histograms(reference, other, weights, bins=bins)
    return float(0.5 * np.abs(one - two).sum())


def jensen_shannon(
    reference: FloatArray, other: FloatArray, weights: FloatArray | None = None, *, bins: int = 60
) -> float:
    """Jensen-Shannon divergence of the histograms of angles [n] and [m], radians between -pi and pi."""
    one, two = histograms(reference, other, weights, bins=bins, span=(-np.pi, np.pi))
    mean = 0.5 * (one + two)

    def entropy(p: FloatArray) -> float:
        inside = p > 0.0
        return float((p[inside] * np.log(p[inside] / mean[inside])).sum())

    return 0.5 * (entropy(one) + entropy(two))


def wasserstein(reference: FloatArray, other: FloatArray, weights: FloatArray | None = None) -> float:
    """First Wasserstein distance of values [n] and [m]."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(reference, other, v_weights=weights))


def noise_floor(metric: Metric, reference: FloatArray, n: int, *, draws: int = 10, seed: int = 0) -> float:
    """Mean distance of the reference [m, ...] from `n` samples of itself, what equal distributions give.

    The reference is divided where `n` is at most half of it. Otherwise both sets are drawn from it with replacement, so that
    both are as noisy as m and `n` samples are.

    Args:
        metric: The distance.
        reference: Values by sample; those of a sample stay together.
        n: Number of samples.
        draws: Number of draws that are averaged.
        seed: Seed of the draws.
    """
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        m = len(reference)
        order = random.permutation(m) if 2 * n <= m else random.integers(0, m, m + n)
        two, one = order[:n], order[n:]
        found.append(metric(reference[one].reshape(-1), reference[two].reshape(-1)))
    return float(np.mean(found))


def pair_distances(positions: FloatArray) -> FloatArray:
    """Distances of all pairs [n_frames, n_pairs] of positions [n_frames, n_atoms, 3]."""
    i, j = np.triu_indices(positions.shape[1], 1)
    distances: FloatArray = np.linalg.norm(positions[:, i] - positions[:, j], axis=-1)
    return distances


def torsions(positions: FloatArray, chains: NDArray[np.int64]) -> FloatArray:
    """Torsion angles [n_frames, n_chains] (radians, -pi to pi) along chains of four atoms [n_chains, 4]."""
    a, b, c, d = (positions[:, chains[:, k]] for k in range(4))
    first, axis, last = b - a, c - b, d - c
    one, two = np.cross(first, axis), np.cross(axis, last)
    sine = np.linalg.norm(axis, axis=-1) * (first * two).sum(axis=-1)
    angles: FloatArray = np.arctan2(sine, (one * two).sum(axis=-1))
    return angles


def coverage(distances: FloatArray, threshold: float) -> dict[str, float]:
    """Coverage and matching of two sets of conformers by their RMSDs.

    Args:
        distances: RMSDs [n_reference, n_generated], Angstrom.
        threshold: RMSD below which a conformer counts as found, Angstrom.

    Returns:
        `COV-R`, the share of reference conformers that are found; `MAT-R`, the mean RMSD of each to the nearest generated
        one; `COV-P` and `MAT-P`, the same with the roles exchanged.
    """
    recall, precision = distances.min(axis=1), distances.min(axis=0)
    return {
        "COV-R": float((recall < threshold).mean()),
        "MAT-R": float(recall.mean()),
        "COV-P": float((precision < threshold).mean()),
        "MAT-P": float(precision.mean()),
    }
