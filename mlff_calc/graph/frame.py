"""One structure as arrays that are checked once and changed by nobody: what everything behind the door works with.

Successive frames of a run share what has not changed between them. Whoever keeps something made from a part (tensors, an
elements check, a volume) sees by identity that it still holds: `frame.system is last.system`.
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
    """What stays the same in a run at constant volume.

    Attributes:
        numbers: [n_atoms] int64 atomic numbers.
        cell: [3, 3] float64 rows are vectors, Angstrom.
        pbc: [3] bool.
    """

    numbers: NDArray[np.int64]
    cell: FloatArray
    pbc: NDArray[np.bool_]

    @cached_property
    def volume(self) -> float:
        """Volume of the cell, Angstrom^3; zero where a vector is."""
        return float(np.abs(np.linalg.det(self.cell)))

    @cached_property
    def is_periodic(self) -> bool:
        """Whether the structure is periodic along any direction."""
        return bool(self.pbc.any())


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure, checked: finite positions, a cell that can be periodic, as many numbers as positions.

    Attributes:
        system: elements, cell and periodicity.
        positions: [n_atoms, 3] float64 Angstrom, contiguous.
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
        """A frame of copies.

        Args:
            numbers: [n_atoms] atomic numbers.
            positions: [n_atoms, 3] Angstrom.
            cell: [3, 3] rows are vectors, or [3] lengths, Angstrom; None where there is none.
            pbc: one or three booleans.

        Raises:
            StructureError: see `checked_arrays`; also where there are not as many numbers as positions.
        """
        species = np.array(numbers, dtype=np.int64).reshape(-1)
        xyz, lattice, flags = checked_arrays(positions, cell, pbc)
        if len(species) != len(xyz):
            raise StructureError(f"there are {len(species)} atomic numbers but {len(xyz)} positions")
        return cls(System(species, lattice, flags), xyz)

    @classmethod
    def of_atoms(cls, atoms: Atoms, before: Frame | None = None) -> Frame:
        """A frame of atoms that shares with the one before what is equal in both.

        Args:
            atoms: the structure; not changed, not kept.
            before: an earlier frame, of the same structure or of any other.

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
