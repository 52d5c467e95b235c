"""One pair of frames: where bodies are and how fast, and where they are some time later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

COINCIDENT = 1e-6
"""Distance below which two bodies count as coincident, in the file's unit of length."""


@dataclass(frozen=True, eq=False)
class MotionSample:
    """Two frames of a trajectory and the graph of its bodies.

    Attributes:
        positions: [n, 3], the file's unit of length.
        velocities: [n, 3], length per unit of time.
        target_positions: [n, 3], after `horizon`.
        target_velocities: [n, 3], after `horizon`; None where the file does not give them.
        kinds: [n], 1 to 118: atomic numbers of molecules, joint number + 1 in skeletons, 1 for bare particles.
        scalars: [n, n_scalars]: the charge (N-body), the height above the floor (motion capture), none (molecules).
        edges: [2, n_edges], both directions, sorted by row 0, which receives.
        edge_scalars: [n_edges, 1]: product of charges (N-body), or 1 where the edge is one bond or bone and 0 where not.
        horizon: time between the frames, in the velocities' unit of time.
        place: file, trajectory and frames, for messages.
    """

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    target_positions: NDArray[np.float64]
    target_velocities: NDArray[np.float64] | None
    kinds: NDArray[np.int64]
    scalars: NDArray[np.float64]
    edges: NDArray[np.int64]
    edge_scalars: NDArray[np.float64]
    horizon: float
    place: str


Pairs = Callable[[str | None, int | None], list[MotionSample]]
"""A file that was read: gives the pairs of a part (None: of all parts), or the first so many of them (None: all)."""


def check_sample(sample: MotionSample) -> MotionSample:
    """Refuse what no network can make sense of.

    Args:
        sample: one pair of frames.

    Returns:
        The same sample.

    Raises:
        DatasetError: fewer than two bodies, numbers that are not finite, coincident bodies, no edges, an edge from a body
            to itself.
    """
    n = len(sample.positions)
    if n < 2:
        raise DatasetError(
            f"{sample.place}: {n} body; motion is learned from what bodies do to each other, so that at least two are "
            "needed. Take the file out of the data, or keep more atoms (heavy_atoms: false)."
        )
    for name in ("positions", "velocities", "target_positions", "target_velocities", "scalars", "edge_scalars"):
        values = getattr(sample, name)
        if values is not None and not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            where = f"edge {row}" if name == "edge_scalars" else f"atom {row}"
            raise DatasetError(
                f"{sample.place}, {where}: {name} are not finite (NaN or infinity). Take these frames out of the file."
            )
    _check_distances(sample)
    if sample.edges.shape[1] == 0:
        raise DatasetError(
            f"{sample.place}: no two of the {n} bodies are connected. Give `neighbors`, the number of nearest neighbours "
            "to connect, or check the unit of length."
        )
    loop = np.nonzero(sample.edges[0] == sample.edges[1])[0]
    if len(loop):
        raise DatasetError(
            f"{sample.place}, edge {loop[0]}: it connects body {sample.edges[0, loop[0]]} with itself; take this edge out"
        )
    return sample


def _check_distances(sample: MotionSample) -> None:
    """Refuse coincident bodies; between them there is no direction."""
    squared = np.zeros((len(sample.positions),) * 2)
    with np.errstate(over="ignore"):
        for axis in sample.positions.T:
            squared += np.subtract.outer(axis, axis) ** 2
    np.fill_diagonal(squared, np.inf)
    if squared.min() < COINCIDENT**2:
        first, second = (int(index) for index in np.unravel_index(int(squared.argmin()), squared.shape))
        raise DatasetError(
            f"{sample.place}: bodies {first} and {second} are at the same place "
            f"({np.sqrt(squared[first, second]):.1g} apart). Take this frame, or one of the two bodies, out of the file."
        )
