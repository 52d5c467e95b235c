"""Choice of the frames to label next: those of large errors that differ most, and an audit drawn at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def farthest_points(candidates: FloatArray, known: FloatArray, n: int) -> list[int]:
    """Choose rows one after another, each the farthest from those that are chosen or known.

    Args:
        candidates: Features [n_candidates, width].
        known: Features of known frames [n_known, width].
        n: Number of rows to choose; fewer where others are copies of chosen ones.

    Returns:
        Numbers of the rows, in the order of the choice.
    """
    if not len(candidates):
        return []
    whole = np.concatenate([candidates, known]) if len(known) else candidates
    scale = np.maximum(whole.std(axis=0), 1e-6)
    rows, others = candidates / scale, known / scale
    distances = np.full(len(rows), np.inf)
    for other in others:
        np.minimum(distances, np.linalg.norm(rows - other, axis=1), out=distances)
    chosen: list[int] = []
    while len(chosen) < min(n, len(rows)):
        best = int(distances.argmax()) if np.isfinite(distances).all() else 0
        if distances[best] <= 1e-9:
            break
        chosen.append(best)
        np.minimum(distances, np.linalg.norm(rows - rows[best], axis=1), out=distances)
    return chosen


def at_random(n_frames: int, n: int, random: np.random.Generator) -> list[int]:
    """Numbers of frames drawn without preference, rising."""
    return sorted(int(k) for k in random.permutation(n_frames)[:n])
