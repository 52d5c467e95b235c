"""One pair of frames: positions and velocities of bodies, and those some time later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

COINCIDENT = 1e-6
"""Distance, in the file's unit of length, below which two bodies count as coincident; raising it refuses more samples."""


@dataclass(frozen=True, eq=False)
class MotionSample:
    """Two frames of a trajectory and the graph of its bodies.

    Attributes:
        positions: positions [n, 3], in the file's unit of length.
        velocities: velocities [n, 3], length per unit of time.
        target_positions: positions after `horizon` [n, 3].
        target_velocities: velocities after `horizon` [n, 3]; None where the file has none.
        kinds: kinds of bodies [n], 1 to 118: atomic numbers in molecules, joint number + 1 in skeletons, 1 for bare
            particles.
        scalars: scalars of bodies [n, n_scalars]: the charge (N-body), the height above the floor (motion capture),
            none (molecules).
        edges: edges [2, n_edges], both directions, sorted by row 0 (the receiver).
        edge_scalars: scalars of edges [n_edges, 1]: product of charges (N-body), or 1 for a single bond or bone and 0
            otherwise.
        horizon: time between the frames, in the unit of time of the velocities.
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
"""Function of part (None: all parts) and largest number of pairs (None: all) that returns pairs of an opened file."""


def check_sample(sample: MotionSample) -> MotionSample:
    """Check that a sample can be used by a network.

    Args:
        sample: one pair of frames.

    Returns:
        The same sample.

    Raises:
        DatasetError: there are fewer than two bodies or no edges, numbers are not finite, bodies coincide, or an edge
            connects a body with itself.
    """
    n = len(sample.positions)
    if n < 2:
        raise DatasetError(
            f"{sample.place}: {n} body; motion is learned from interactions of bodies, so at least two are "
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
    """Refuse coincident bodies, since there is no direction between them."""
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
