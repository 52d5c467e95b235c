"""All pairs of atoms within a cutoff, whatever the cell and periodicity."""

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
    """Directed pairs, sorted by centre, neighbour and shift: their order, too, is a function of the structure alone.

    Attributes:
        centers: [n_pairs] int64, the atom i that looks.
        neighbors: [n_pairs] int64, the atom j that is seen.
        shifts: [n_pairs, 3] int64, whole cell vectors to add: ``x_j - x_i + shifts @ cell`` is the edge vector for the
            positions exactly as given, wrapped or not. Zero along directions without periodicity.
    """

    centers: NDArray[np.int64]
    neighbors: NDArray[np.int64]
    shifts: NDArray[np.int64]


def check_cutoff(cutoff: float, name: str = "cutoff") -> float:
    """The cutoff as a float; an OptionError unless it is finite and positive."""
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
    """All directed pairs closer than `cutoff`, self images included.

    Args:
        positions: [n_atoms, 3] Angstrom; need not lie inside the cell.
        cell: [3, 3] rows are vectors, Angstrom; None, zero or any dummy where there is no periodicity.
        pbc: [3] or one boolean.
        cutoff: Angstrom; pairs at a distance below it are listed.
        backend: ``matscipy``, ``ase``, ``vesin`` or ``auto`` (see `mlff_calc.graph.backends`).
        device: where a GPU backend runs.
        min_distance: Angstrom; a closer pair is an error. 0 switches the check off.

    Returns:
        The pairs as numpy arrays, sorted. An atom and itself are never paired without a shift.

    Raises:
        StructureError: positions not finite, periodic along a zero or degenerate cell vector, overlapping atoms.
        OptionError: a cutoff that is not positive, an unknown backend, or one that is not installed.
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
    """`neighbor_pairs` of arrays that `checked_arrays` or a `Frame` gives: positions, cell, pbc."""
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


def check_overlap(
    centers: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    squared: NDArray[np.float64],
    min_distance: float = MIN_DISTANCE,
) -> None:
    """Refuse pairs that are too close.

    Args:
        centers: [n_pairs].
        neighbors: [n_pairs].
        squared: [n_pairs] squared distances, Angstrom^2.
        min_distance: Angstrom.

    Raises:
        StructureError: naming the closest pair.
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
