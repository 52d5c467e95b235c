"""All pairs of atoms within a cutoff, for any cell and periodicity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlff_calc.errors import OptionError, StructureError
from mlff_calc.graph.backends import BACKENDS, resolve_backend
from mlff_calc.graph.box import MIN_DISTANCE, checked_arrays, enclosing_box
from mlff_calc.graph.order import lexicographic


class NeighborPairs(NamedTuple):
    """Directed pairs, sorted by centre, neighbour and shift, so that their order depends on the structure alone.

    Attributes:
        centers: centre i of each pair [n_pairs], int64.
        neighbors: neighbour j of each pair [n_pairs], int64.
        shifts: whole cell vectors to add [n_pairs, 3], int64. ``x_j - x_i + shifts @ cell`` is the edge vector for the
            positions exactly as given, wrapped or not. Zero along non-periodic directions.
    """

    centers: NDArray[np.int64]
    neighbors: NDArray[np.int64]
    shifts: NDArray[np.int64]


def shift_vectors(shifts: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Cartesian vectors [n, 3] (Angstrom) of shifts [n, 3] by whole cell vectors [3, 3]; zero along open directions."""
    # not a matrix product: its rounding may depend on the number of rows, and so on the time of the build
    first, second, third = np.where(pbc[:, None], cell, 0.0)
    return shifts[:, :1] * first + shifts[:, 1:2] * second + shifts[:, 2:] * third


def check_cutoff(cutoff: float, name: str = "cutoff") -> float:
    """Return the cutoff as a float; raises an OptionError unless it is finite and positive."""
    value = float(cutoff)
    if not (np.isfinite(value) and value > 0.0):
        raise OptionError(f"{name} is {cutoff} Angstrom; give a finite, positive number")
    return value


def neighbor_pairs(
    positions: ArrayLike,
    cell: ArrayLike | None,
    pbc: ArrayLike,
    cutoff: float,
    backend: str = "matscipy",
    *,
    device: str | torch.device = "cpu",
    min_distance: float = MIN_DISTANCE,
) -> NeighborPairs:
    """Find all directed pairs closer than `cutoff`, self images included.

    Args:
        positions: positions [n_atoms, 3], Angstrom; need not lie inside the cell.
        cell: cell vectors as rows [3, 3], Angstrom; None, zero or any dummy along non-periodic directions.
        pbc: one or three booleans.
        cutoff: cutoff radius (Angstrom); pairs below it are listed.
        backend: ``matscipy``, ``ase``, ``vesin`` or ``auto`` (see `mlff_calc.graph.backends`).
        device: device that a GPU backend runs on.
        min_distance: smallest distance allowed (Angstrom); 0 switches the check off.

    Returns:
        The pairs as sorted numpy arrays. An atom is paired with itself only across a shift.

    Raises:
        StructureError: positions are not finite, the structure is periodic along a zero or degenerate cell vector, or
            atoms overlap.
        OptionError: the cutoff is not positive, or the backend is unknown or not installed.
    """
    xyz, lattice, flags = checked_arrays(positions, cell, pbc)
    return pairs_between(xyz, lattice, flags, cutoff, backend, device=device, min_distance=min_distance)


def pairs_between(
    xyz: NDArray[np.float64],
    lattice: NDArray[np.float64],
    flags: NDArray[np.bool_],
    cutoff: float,
    backend: str,
    *,
    device: str | torch.device = "cpu",
    min_distance: float = MIN_DISTANCE,
) -> NeighborPairs:
    """`neighbor_pairs` for positions, cell and pbc that are already checked, by `checked_arrays` or as a `Frame`."""
    cutoff = check_cutoff(cutoff)
    where = torch.device(device)
    find = BACKENDS[resolve_backend(backend, where)]
    if len(xyz) == 0:
        none = np.zeros(0, dtype=np.int64)
        return NeighborPairs(none, none.copy(), np.zeros((0, 3), dtype=np.int64))
    box = enclosing_box(xyz, lattice, flags, cutoff)
    centers, neighbors, shifts = (np.asarray(array, dtype=np.int64) for array in find(box, cutoff, where))
    if box.wraps.any():
        shifts = shifts + box.wraps[centers] - box.wraps[neighbors]
    if not flags.all():
        shifts = np.where(flags, shifts, 0)
    order = lexicographic([centers, neighbors, *shifts.T])
    centers, neighbors, shifts = centers[order], neighbors[order], np.take(shifts, order, axis=0)
    if min_distance > 0.0:
        vectors = xyz[neighbors] - xyz[centers] + shifts @ np.where(flags[:, None], lattice, 0.0)
        check_overlap(centers, neighbors, np.einsum("ij,ij->i", vectors, vectors), min_distance)
    return NeighborPairs(centers, neighbors, shifts)


def pairs_inside(
    pairs: NDArray[np.int64],
    positions: NDArray[np.float64],
    offsets: NDArray[np.float64],
    cutoff: float,
    scratch: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which of stored pairs are within the cutoff now.

    Args:
        pairs: centres and neighbours [2, n_pairs].
        positions: positions [n_atoms, 3], Angstrom.
        offsets: what images add to the vectors [n_pairs, 3], Angstrom.
        cutoff: cutoff radius, Angstrom.
        scratch: two arrays [n_pairs, 3] to work in, which saves their allocation in every step.

    Returns:
        Indices of the pairs, rising, and their vectors [n_inside, 3]; both are new arrays.

    Raises:
        StructureError: atoms overlap.
    """
    centers, neighbors = pairs
    vectors, origins = scratch or (np.empty_like(offsets), np.empty_like(offsets))
    # mode "clip" writes into `out` without a buffer; indices are always in range
    positions.take(neighbors, axis=0, out=vectors, mode="clip")
    positions.take(centers, axis=0, out=origins, mode="clip")
    vectors -= origins
    vectors += offsets
    squared = np.einsum("ij,ij->i", vectors, vectors)
    check_overlap(centers, neighbors, squared)
    inside = (squared < cutoff**2).nonzero()[0]
    return inside, vectors.take(inside, axis=0)


def check_overlap(
    centers: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    squared: NDArray[np.float64],
    min_distance: float = MIN_DISTANCE,
) -> None:
    """Check that no pair is too close.

    Args:
        centers: centres [n_pairs].
        neighbors: neighbours [n_pairs].
        squared: squared distances [n_pairs], Angstrom^2.
        min_distance: smallest distance allowed (Angstrom).

    Raises:
            StructureError: a pair is too close; the message names the closest one.
    """
    if len(squared) == 0:
        return
    closest = int(squared.argmin())
    if squared[closest] >= min_distance**2:
        return
    i, j = int(centers[closest]), int(neighbors[closest])
    who = f"atom {i} and its own periodic image" if i == j else f"atoms {min(i, j)} and {max(i, j)}"
    raise StructureError(
        f"{who} overlap: they are {float(np.sqrt(squared[closest])):.3g} Angstrom apart, less than {min_distance} "
        "Angstrom. Remove the duplicate, or move the atoms apart (a dynamics run that gets here has exploded)"
    )
