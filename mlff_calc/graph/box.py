"""The box handed to a neighbour-list library; it encloses all atoms for any cell of the user's.

Libraries that sort atoms into bins are right only if all atoms lie inside the box. Periodic directions therefore keep
their cell vector and atoms are wrapped along them (the shifts are undone afterwards). Each non-periodic direction gets
a new vector that is orthogonal to all others and long enough to enclose the atoms. The user's vector of that direction,
which may be a dummy, zero or slanted, does not influence the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlff_calc.errors import StructureError

MIN_DISTANCE = 0.1
"""Smallest distance allowed between atoms (Angstrom); raising it refuses more structures. No bond is shorter than 0.7."""
MIN_HEIGHT = 0.01
"""Smallest height of a periodic cell (Angstrom); a thinner one counts as degenerate."""
SAFETY = 1e-3
"""Distance (Angstrom) by which an empty layer must exceed the cutoff to count as empty, as a guard against rounding."""

FloatArray = NDArray[np.float64]
AXES = ("a (first)", "b (second)", "c (third)")


@dataclass(frozen=True)
class Box:
    """Parallelepiped that encloses all atoms.

    Attributes:
        cell: cell vectors as rows [3, 3], Angstrom; those of periodic directions are the user's.
        positions: positions [n_atoms, 3], Angstrom, wrapped along periodic directions, inside the box with a corner at
            zero.
        periodic: directions [3] along which pairs with images must be searched, a subset of the user's pbc.
        wraps: whole cell vectors [n_atoms, 3] (int64) that were subtracted from the user's positions.
    """

    cell: FloatArray
    positions: FloatArray
    periodic: NDArray[np.bool_]
    wraps: NDArray[np.int64]


def checked_arrays(
    positions: ArrayLike, cell: ArrayLike | None, pbc: ArrayLike
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return positions [n_atoms, 3], cell [3, 3] and pbc [3] as contiguous copies with the right dtype.

    Args:
        positions: positions [n_atoms, 3], Angstrom, with any strides.
        cell: cell vectors as rows [3, 3] or lengths [3], Angstrom; None for no cell.
        pbc: one or three booleans.

    Raises:
        StructureError: a shape is wrong, or positions or cell are not finite.
    """
    xyz = np.array(positions, dtype=np.float64, order="C")
    if xyz.size == 0:
        xyz = xyz.reshape(0, 3)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise StructureError(f"positions have shape {xyz.shape}, expected [n_atoms, 3]; give three numbers per atom")
    box = np.zeros((3, 3)) if cell is None else np.array(cell, dtype=np.float64)
    if box.shape == (3,):
        box = np.diag(box)
    if box.shape != (3, 3):
        raise StructureError(f"cell has shape {box.shape}, expected [3, 3] with cell vectors as rows")
    flags = np.array(pbc, dtype=bool)
    if flags.shape not in {(), (3,)}:
        raise StructureError(f"pbc has shape {flags.shape}, expected one or three booleans")
    flags = np.broadcast_to(flags, (3,)).copy()
    check_positions(xyz)
    check_cell(box, flags)
    return xyz, box, flags


def check_positions(positions: FloatArray) -> None:
    """Check that positions [n_atoms, 3] (Angstrom) are finite.

    Raises:
        StructureError: a position is not finite; the message names the first such atom.
    """
    if all_finite(positions):
        return
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    raise StructureError(
        f"position of atom {bad[0]} is not finite: {positions[bad[0]].tolist()} Angstrom ({len(bad)} such atoms); check the "
        "step or file it came from"
    )


def all_finite(array: FloatArray) -> bool:
    """Whether all numbers are finite (for a small molecule three times as fast as `numpy.isfinite(array).all()`)."""
    return 0 not in np.isfinite(array).tobytes()


def check_cell(cell: FloatArray, pbc: NDArray[np.bool_]) -> None:
    """Check that a cell can be periodic.

    Args:
        cell: cell vectors as rows [3, 3], Angstrom.
        pbc: periodicity [3].

    Raises:
        StructureError: a periodic vector is not finite, zero or too short, or periodic vectors lie in one plane or line.
    """
    if not pbc.any():
        return
    for direction in np.flatnonzero(pbc):
        length = float(np.linalg.norm(cell[direction]))
        if not np.isfinite(length):
            raise StructureError(f"cell vector {AXES[direction]} is not finite: {cell[direction].tolist()} Angstrom")
        if length < MIN_DISTANCE:
            what = "zero" if length == 0.0 else f"only {length:.3g} Angstrom long"
            raise StructureError(
                f"the structure is periodic along cell vector {AXES[direction]}, but that vector is {what}. "
                f"Set the cell (atoms.set_cell), or switch periodicity off there (atoms.pbc[{direction}] = False)"
            )
    vectors = cell[pbc]
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(vectors, rcond=1e-14), axis=0)
    if np.linalg.matrix_rank(vectors, tol=1e-9 * np.abs(vectors).max()) < len(vectors) or heights.min() < MIN_HEIGHT:
        raise StructureError(
            f"the periodic cell vectors {vectors.tolist()} Angstrom lie in one plane or on one line, so the cell has no "
            "volume. Give linearly independent vectors, or switch periodicity off along one of them (atoms.pbc)"
        )


def spanning_cell(cell: FloatArray, pbc: NDArray[np.bool_]) -> FloatArray:
    """Return the cell with the vectors of non-periodic directions replaced by unit vectors orthogonal to all others.

    Args:
        cell: cell vectors as rows [3, 3], Angstrom.
        pbc: periodicity [3].

    Returns:
            Cell vectors [3, 3]; never singular for a checked cell.
    """
    if pbc.all():
        return cell
    full = np.eye(3)
    periodic = cell[pbc]
    if len(periodic):
        _, _, basis = np.linalg.svd(periodic)  # rows beyond the rank span the orthogonal complement
        full[pbc] = periodic
        full[~pbc] = basis[len(periodic) :]
    return full


def enclosing_box(positions: FloatArray, cell: FloatArray, pbc: NDArray[np.bool_], cutoff: float) -> Box:
    """Build the enclosing box of checked arrays.

    A periodic direction with an empty layer thicker than the cutoff has no pair across that layer. It is cut there and
    treated as non-periodic. Along non-periodic directions, empty stretches longer than the cutoff are shortened. Both
    keep every pair, and they keep the number of bins small for molecules in large boxes, slabs and distant fragments.

    Args:
        positions: positions [n_atoms, 3], Angstrom.
        cell: cell vectors as rows [3, 3], Angstrom.
        pbc: periodicity [3].
        cutoff: cutoff radius (Angstrom).

    Returns:
        The box with wrapped positions.
    """
    full = spanning_cell(cell, pbc)
    inverse = np.linalg.inv(full)
    fractional = positions @ inverse
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    starts, periodic = np.zeros(3), pbc.copy()
    for direction in np.flatnonzero(pbc):
        cut = _empty_layer(fractional[:, direction], (cutoff + SAFETY) / heights[direction])
        if cut is not None:
            starts[direction], periodic[direction] = cut, False
    wraps = np.where(pbc, np.floor(fractional - starts), 0.0)
    inside = positions - wraps[:, pbc] @ full[pbc]
    box = spanning_cell(cell, periodic)
    fractional = inside @ np.linalg.inv(box)
    lean = np.where(
        periodic, np.floor(fractional), 0.0
    )  # a slanted vector that is cut no longer carries atoms sideways
    fractional -= lean
    for direction in np.flatnonzero(~periodic):
        squeezed = _squeeze(fractional[:, direction], cutoff + SAFETY)
        length = float(squeezed.max(initial=0.0)) + 2.0
        box[direction] *= length
        fractional[:, direction] = (squeezed + 1.0) / length
    return Box(box, np.ascontiguousarray(fractional @ box), periodic, (wraps + lean).astype(np.int64))


def _empty_layer(fractional: FloatArray, thickness: float) -> float | None:
    """Middle of the widest empty layer along a periodic direction if thicker than `thickness`, else None; all fractional."""
    if thickness >= 1.0 or len(fractional) == 0:
        return None
    wrapped = np.sort(fractional - np.floor(fractional))
    gaps = np.diff(wrapped, append=wrapped[0] + 1.0)
    widest = int(np.argmax(gaps))
    return None if gaps[widest] <= thickness else float(wrapped[widest] + 0.5 * gaps[widest])


def _squeeze(coordinates: FloatArray, widest: float) -> FloatArray:
    """Coordinates starting at zero, with gaps between consecutive values shortened to `widest`; their order is kept."""
    if len(coordinates) == 0:
        return coordinates
    order = np.argsort(coordinates, kind="stable")
    gaps = np.diff(coordinates[order])
    if len(gaps) == 0 or gaps.max() <= widest:
        return coordinates - coordinates[order[0]]
    result = np.empty_like(coordinates)
    result[order] = np.concatenate([[0.0], np.cumsum(np.minimum(gaps, widest))])
    return result
