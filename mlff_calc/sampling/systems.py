"""Many structures as joined arrays: what all of sampling works on.

Atoms stand system after system. Positions, velocities and forces are arrays [n_atoms, 3] beside a `Systems`, which holds
what does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.errors import StructureError
from mlff_calc.graph.frame import Frame
from mlff_calc.graph.masses import refuse_named_masses
from mlff_calc.graph.occupancy import check_occupancy

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Systems:
    """Structures of any sizes.

    Attributes:
        numbers: Atomic numbers [n_atoms] int64.
        sizes: Number of atoms of each system [n_systems], at least one each.
        cells: Cell vectors as rows [n_systems, 3, 3], Angstrom.
        pbc: Periodicity [n_systems, 3] bool.
        masses: Masses [n_atoms], amu.
    """

    numbers: NDArray[np.int64]
    sizes: NDArray[np.int64]
    cells: FloatArray
    pbc: NDArray[np.bool_]
    masses: FloatArray

    @classmethod
    def of(cls, structures: Sequence[Atoms]) -> tuple[Systems, FloatArray]:
        """Systems of structures and their positions [n_atoms, 3]; the structures are not changed.

        Raises:
            StructureError: No structures, one without atoms, one with constraints, and see `Frame.of_atoms`.
        """
        if not structures:
            raise StructureError("there are no structures; give at least one")
        frames = []
        for number, atoms in enumerate(structures):
            if len(atoms) == 0:
                raise StructureError(f"structure {number} has no atoms; leave it out")
            if atoms.constraints:
                raise StructureError(
                    f"structure {number} has constraints, which batches do not keep; take them off, or run it by itself"
                )
            check_occupancy(atoms)
            refuse_named_masses(atoms)
            frames.append(Frame.of_atoms(atoms))
        systems = cls(
            numbers=np.concatenate([frame.numbers for frame in frames]),
            sizes=np.array([len(frame) for frame in frames], dtype=np.int64),
            cells=np.stack([frame.cell for frame in frames]),
            pbc=np.stack([frame.pbc for frame in frames]),
            masses=np.concatenate([atoms.get_masses() for atoms in structures]),
        )
        return systems, np.concatenate([frame.positions for frame in frames])

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First atom of each system [n_systems]."""
        return np.cumsum(self.sizes) - self.sizes

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """System of each atom [n_atoms]."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def sums(self, values: FloatArray) -> FloatArray:
        """Sums over the atoms of each system [n_systems, ...] of values [n_atoms, ...]."""
        return np.add.reduceat(values, self.starts, axis=0)

    def maxima(self, values: FloatArray) -> FloatArray:
        """Largest value of each system [n_systems] of values [n_atoms]."""
        return np.maximum.reduceat(values, self.starts)

    def dot(self, one: FloatArray, other: FloatArray) -> FloatArray:
        """Inner products [n_systems] of two arrays [n_atoms, 3]."""
        return self.sums(np.einsum("ij,ij->i", one, other))

    def spread(self, values: FloatArray) -> FloatArray:
        """Values of systems [n_systems] at each of their atoms [n_atoms, 1]."""
        return values.take(self.index)[:, None]

    def rows(self, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        """Numbers of the atoms of chosen systems, in the order in which these are given."""
        return np.concatenate([np.arange(self.starts[k], self.starts[k] + self.sizes[k]) for k in chosen])

    def take(self, chosen: NDArray[np.intp]) -> Systems:
        """Some of the systems, at least one, by their numbers."""
        rows = self.rows(chosen)
        return Systems(
            self.numbers[rows], self.sizes[chosen], self.cells[chosen], self.pbc[chosen], self.masses[rows]
        )

    def atoms(self, number: int, positions: FloatArray) -> Atoms:
        """One system as ASE's atoms, out of positions of all [n_atoms, 3]."""
        rows = slice(self.starts[number], self.starts[number] + self.sizes[number])
        found = Atoms(self.numbers[rows], positions[rows], cell=self.cells[number], pbc=self.pbc[number])
        found.set_masses(self.masses[rows])
        return found
