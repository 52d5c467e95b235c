"""Edges of graphs of bodies: complete graphs, bonds, hops along bonds or bones, nearest neighbours.

Every function returns edges as [2, n_edges], in both directions, sorted by row 0 (the receiver) and then by row 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

BOND_LENGTH = 1.6
"""Distance (Angstrom) below which atoms count as bonded: C-C, C-N and C-O bonds are shorter, second neighbours longer."""


def complete_edges(n: int) -> NDArray[np.int64]:
    """Connect all bodies with each other.

    Args:
        n: number of bodies.

    Returns:
        Edges [2, n (n - 1)].
    """
    return _edges_of(~np.eye(n, dtype=bool))


def bonds(positions: NDArray[np.float64], length: float = BOND_LENGTH) -> NDArray[np.int64]:
    """Connect pairs closer than a length.

    Args:
        positions: positions [n, 3].
        length: length in the unit of the positions.

    Returns:
        Edges [2, n_edges].
    """
    near = _distances(positions) < length
    np.fill_diagonal(near, False)
    return _edges_of(near)


def within_hops(edges: NDArray[np.int64], n: int, hops: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Connect bodies that are at most a number of bonds or bones apart.

    Args:
        edges: bonds or bones [2, n_bonds], in either or both directions.
        n: number of bodies.
        hops: largest number of bonds; 1 keeps the bonds only.

    Returns:
        Edges [2, n_edges], and flags [n_edges, 1] that are 1 for a single bond and 0 otherwise.

    Raises:
        DatasetError: `hops` is less than 1.
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
    """Connect each body with its k nearest, and with those that count it among their k nearest.

    Args:
        positions: positions [n, 3].
        k: number of neighbours.
        place: file and frame, for messages.

    Returns:
        Edges [2, n_edges], at least k for each body.

    Raises:
        DatasetError: k is less than 1, or at least the number of bodies.
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
    """Convert a matrix of connections to edges, row by row."""
    return np.stack(np.nonzero(connected)).astype(np.int64)
