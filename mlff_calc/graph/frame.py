"""One structure as arrays that are checked once and never changed.

Successive frames of a run share the parts that have not changed. Code that caches something derived from a part
(tensors, an element check, a volume) can test by identity whether it is still valid: `frame.system is last.system`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from mlff_calc.errors import StructureError
from mlff_calc.graph.box import FloatArray, check_cell, check_positions, checked_arrays


@dataclass(frozen=True, eq=False)
class System:
    """The part of a structure that stays the same in a run at constant volume.

    Attributes:
        numbers: atomic numbers [n_atoms], int64.
        cell: cell vectors as rows [3, 3], float64, Angstrom.
        pbc: periodicity [3], bool.
    """

    numbers: NDArray[np.int64]
    cell: FloatArray
    pbc: NDArray[np.bool_]

    @cached_property
    def volume(self) -> float:
        """Volume of the cell, Angstrom^3; zero where a vector is zero."""
        return float(np.abs(np.linalg.det(self.cell)))

    @cached_property
    def is_periodic(self) -> bool:
        """Whether the structure is periodic along any direction."""
        return bool(self.pbc.any())


@dataclass(frozen=True, eq=False)
class Frame:
    """One checked structure: positions are finite, the cell can be periodic, and the numbers of atoms agree.

    Attributes:
        system: elements, cell and periodicity.
        positions: positions [n_atoms, 3], float64, Angstrom, contiguous.
    """

    system: System
    positions: FloatArray

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Atomic numbers [n_atoms]."""
        return self.system.numbers

    @property
    def cell(self) -> FloatArray:
        """Cell vectors as rows [3, 3], Angstrom."""
        return self.system.cell

    @property
    def pbc(self) -> NDArray[np.bool_]:
        """Periodicity [3]."""
        return self.system.pbc

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def of(cls, numbers: ArrayLike, positions: ArrayLike, cell: ArrayLike | None, pbc: ArrayLike) -> Frame:
        """Create a frame from copies of arrays.

        Args:
            numbers: atomic numbers [n_atoms].
            positions: positions [n_atoms, 3], Angstrom.
            cell: cell vectors as rows [3, 3] or lengths [3], Angstrom; None for no cell.
            pbc: one or three booleans.

        Raises:
            StructureError: see `checked_arrays`; also raised where the numbers of atoms differ.
        """
        species = np.array(numbers, dtype=np.int64).reshape(-1)
        xyz, lattice, flags = checked_arrays(positions, cell, pbc)
        if len(species) != len(xyz):
            raise StructureError(f"there are {len(species)} atomic numbers but {len(xyz)} positions")
        return cls(System(species, lattice, flags), xyz)

    @classmethod
    def of_atoms(cls, atoms: Atoms, before: Frame | None = None) -> Frame:
        """Create a frame that shares with an earlier one all parts that are equal.

        Args:
            atoms: structure, neither changed nor kept.
            before: earlier frame of any structure.

        Raises:
            StructureError: see `checked_arrays`.
        """
        numbers, cell, pbc = atoms.numbers, atoms.cell.array, atoms.pbc
        positions = np.array(atoms.positions, dtype=np.float64, order="C")
        if before is None or positions.shape != (len(numbers), 3):
            return cls.of(numbers, positions, cell, pbc)
        check_positions(positions)
        known = before.system
        same_numbers, same_cell, same_pbc = equal(known.numbers, numbers), equal(known.cell, cell), equal(known.pbc, pbc)
        if same_numbers and same_cell and same_pbc:
            return cls(known, positions)
        box = known.cell if same_cell else np.array(cell, dtype=np.float64)
        flags = known.pbc if same_pbc else np.array(pbc, dtype=bool)
        if not (same_cell and same_pbc):
            check_cell(box, flags)
        return cls(System(known.numbers if same_numbers else np.array(numbers, dtype=np.int64), box, flags), positions)


def equal(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    """Whether two arrays have the same shape and bits, or the same values where they are of two types.

    Takes a tenth of the time of `numpy.array_equal` for a molecule.
    """
    if one is other:
        return True
    if one.dtype != other.dtype:
        return np.array_equal(one, other)
    return one.shape == other.shape and one.tobytes() == other.tobytes()
