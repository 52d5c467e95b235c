"""Quantities measured on the training samples before a propagator is built: sizes of steps, lengths of edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlff_calc.datasets.motion import MotionSample
from mlff_calc.errors import StructureError

_TINY = 1e-12  # size below which a quantity counts as constant, so that its scale is 1; larger: more quantities do
_HUGE = 1e12  # displacement from which a sample is refused; larger: more extreme samples are accepted


def scales_of(samples: Sequence[MotionSample]) -> dict[str, float]:
    """Measure the scales for `build_propagator`, as root mean squares over components.

    With the constant-velocity step d = v t, the displacement y = x(t) - x, and the best factor s = <d y> / <d d>,
    `drift_share` is s; `length_scale` is the scale of y - s d, the part left to learn; `drift_scale` that of d;
    `speed_scale` that of v(t) - v, or 1 where targets have no velocities; `scalar_scale` that of the scalars, or 1
    where there are none.

    Args:
        samples: training samples.

    Returns:
        The five numbers by name.

    Raises:
        StructureError: a displacement is huge or not finite; the message names the sample.
    """
    far = [sample.place for sample in samples if not np.abs(sample.target_positions - sample.positions).max() < _HUGE]
    if far:
        raise StructureError(
            f"{far[0]}: a particle moves by {_HUGE:g} lengths or more, or its position is not finite; leave the sample out"
        )
    drift = np.concatenate([(sample.velocities * sample.horizon).ravel() for sample in samples])
    moved = np.concatenate([(sample.target_positions - sample.positions).ravel() for sample in samples])
    power = float(np.mean(drift * drift))
    share = float(np.mean(drift * moved)) / power if power > _TINY else 0.0
    changes = [
        (sample.target_velocities - sample.velocities).ravel()
        for sample in samples
        if sample.target_velocities is not None
    ]
    return {
        "drift_share": share,
        "length_scale": _rms(moved - share * drift),
        "drift_scale": _rms(drift),
        "speed_scale": _rms(np.concatenate(changes)) if changes else 1.0,
        "scalar_scale": _rms(np.concatenate([sample.scalars.ravel() for sample in samples])),
    }


def _rms(values: np.ndarray) -> float:
    """Root mean square; 1 where all values are zero."""
    rms = float(np.sqrt(np.mean(values * values))) if values.size else 0.0
    return rms if rms > _TINY else 1.0


def longest_edge(samples: Sequence[MotionSample]) -> float:
    """Length of the longest edge of all samples; 1 where there are no edges."""
    longest = 0.0
    for sample in samples:
        vectors = sample.positions[sample.edges[1]] - sample.positions[sample.edges[0]]
        if len(vectors):
            longest = max(longest, float(np.sqrt((vectors * vectors).sum(axis=1).max())))
    return longest if longest > 0.0 else 1.0


def average_neighbors(samples: Sequence[MotionSample]) -> float:
    """Number of edges per particle over all samples, at least 1."""
    edges = sum(sample.edges.shape[1] for sample in samples)
    return max(1.0, edges / max(1, sum(len(sample.kinds) for sample in samples)))
