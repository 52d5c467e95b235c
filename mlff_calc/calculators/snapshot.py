"""Copy of the structure at the time of a calculation."""

from __future__ import annotations

import copy

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes
from numpy.typing import NDArray

from mlff_calc.graph.frame import Frame, equal

INPUTS = ("initial_charges", "initial_magmoms")
"""Arrays that, besides numbers and positions, belong to the state of a calculation by ASE's rules."""


class Snapshot:
    """A checked frame, from which atoms are made on demand.

    Copying ASE atoms takes longer than all checks of a step together, so the copy is made only when it is needed.

    Args:
        atoms: Structure, which is not changed.
        before: Earlier frame, whose equal parts are shared.

    Attributes:
        frame: Elements, positions, cell and periodicity.
        others: Copies of all arrays except numbers and positions.

    Raises:
        StructureError: The structure is invalid; see `Frame.of_atoms`.
    """

    def __init__(self, atoms: Atoms, before: Frame | None = None) -> None:
        self.frame = Frame.of_atoms(atoms, before)
        self.others = {
            name: array.copy() for name, array in atoms.arrays.items() if name not in ("numbers", "positions")
        }
        self._atoms = None if type(atoms) is Atoms else atoms.copy()
        self._kept = dict(atoms.info), atoms.get_celldisp(), tuple(atoms.constraints)

    def differences(self, atoms: Atoms) -> list[str]:
        """List the parts that differ from those of `atoms` in any bit, by ASE's names."""
        frame, others, arrays = self.frame, self.others, atoms.arrays
        names = [] if equal(frame.positions, arrays["positions"]) else ["positions"]
        if not equal(frame.numbers, arrays["numbers"]):
            names.append("numbers")
        names += [name for name in INPUTS if not _same(others.get(name), arrays.get(name))]
        if not equal(frame.cell, atoms.cell.array):
            names.append("cell")
        if not equal(frame.pbc, atoms.pbc):
            names.append("pbc")
        return names

    def atoms(self) -> Atoms:
        """Copy of the atoms at that time, without a calculator; always the same object."""
        if self._atoms is None:
            frame, (info, shift, constraints) = self.frame, self._kept
            made = Atoms(cell=frame.cell, pbc=frame.pbc, info=info, celldisp=shift)
            made.arrays = {"numbers": frame.numbers.copy(), "positions": frame.positions.copy()}
            made.arrays.update({name: array.copy() for name, array in self.others.items()})
            made.constraints = copy.deepcopy(list(constraints))
            self._atoms = made
        return self._atoms


def differences(before: Snapshot | None, atoms: Atoms) -> list[str]:
    """List differences as `Snapshot.differences` does; all changes if there is no earlier snapshot."""
    return list(all_changes) if before is None else before.differences(atoms)


def _same(one: NDArray[np.generic] | None, other: NDArray[np.generic] | None) -> bool:
    """Whether both are absent or both are equal."""
    if one is None or other is None:
        return one is other
    return equal(one, other)
