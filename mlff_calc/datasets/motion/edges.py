"""Who is connected with whom: complete graphs, bonds, hops along bonds or bones, nearest neighbours.

Every function gives edges as [2, n_edges], both directions, sorted by row 0 (which receives) and then by row 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

BOND_LENGTH = 1.6
"""Atoms nearer than this, Angstrom, count as bonded: C-C, C-N and C-O single bonds are, second neighbours are not."""


def complete_edges(n: int) -> NDArray[np.int64]:
    """Everyone with everyone.

    Args:
        n: number of bodies.

    Returns:
        [2, n (n - 1)].
    """
    return _edges_of(~np.eye(n, dtype=bool))


def bonds(positions: NDArray[np.float64], length: float = BOND_LENGTH) -> NDArray[np.int64]:
    """Pairs nearer than a length.

    Args:
        positions: [n, 3].
        length: in the unit of the positions.

    Returns:
        [2, n_edges].
    """
    near = _distances(positions) < length
    np.fill_diagonal(near, False)
    return _edges_of(near)


def within_hops(edges: NDArray[np.int64], n: int, hops: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs at most so many bonds or bones apart.

    Args:
        edges: [2, n_bonds], either or both directions.
        n: number of bodies.
        hops: longest path that counts; 1 keeps the bonds alone.

    Returns:
        Edges [2, n_edges], and [n_edges, 1] with 1 where the edge is one hop, 0 where more.

    Raises:
        DatasetError: less than one hop.
    """
    if hops < 1:
        raise DatasetError(f"hops = {hops}: give 1 for bonds alone, 2 for bonds and second neighbours, or more")
    one = np.zeros((n, n), dtype=bool)
    one[edges[0], edges[1]] = True
    one |= one.T
    np.fill_diagonal(one, False)
    reached, step = one.copy(), one.astype(np.int64)
    for _ in range(hops - 1):
        reached |= (reached.astype(np.int64) @ step) > 0
    np.fill_diagonal(reached, False)
    found = _edges_of(reached)
    return found, one[found[0], found[1]].astype(np.float64)[:, None]


def nearest_edges(positions: NDArray[np.float64], k: int, place: str) -> NDArray[np.int64]:
    """Everyone with the k nearest, and with those whose k nearest it is among.

    Args:
        positions: [n, 3].
        k: how many.
        place: file and frame, for messages.

    Returns:
        [2, n_edges], at least k for each body.

    Raises:
        DatasetError: k is less than one, or there are not so many others.
    """
    n = len(positions)
    if not 1 <= k < n:
        raise DatasetError(
            f"{place}: neighbors = {k}, and each of the {n} bodies has {n - 1} others. Give 1 to {n - 1}."
        )
    distances = _distances(positions)
    np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    near = np.zeros((n, n), dtype=bool)
    near[np.arange(n)[:, None], order] = True
    return _edges_of(near | near.T)


def _distances(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):  # samples that are not finite are refused elsewhere, by name
        return np.linalg.norm(positions[:, None] - positions[None], axis=-1)


def _edges_of(connected: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Edges of a matrix of who is connected, row by row."""
    return np.stack(np.nonzero(connected)).astype(np.int64)
