"""The structure of a calculation as it was then."""

from __future__ import annotations

import copy

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes
from numpy.typing import NDArray

from mlff_calc.graph.frame import Frame, equal

INPUTS = ("initial_charges", "initial_magmoms")
"""Arrays beside numbers and positions that belong to the state of a calculation by ASE's rules."""


class Snapshot:
    """A checked frame, and atoms for whoever asks for them.

    ASE's copy of the atoms takes longer than all checks of a step together; it is made when somebody looks at it.

    Args:
        atoms: the structure; not changed.
        before: an earlier frame, whose equal parts are shared.

    Attributes:
        frame: what the potential looks at.
        others: copies of all arrays but numbers and positions.

    Raises:
        StructureError: see `Frame.of_atoms`.
    """

    def __init__(self, atoms: Atoms, before: Frame | None = None) -> None:
        self.frame = Frame.of_atoms(atoms, before)
        self.others = {
            name: array.copy() for name, array in atoms.arrays.items() if name not in ("numbers", "positions")
        }
        self._atoms = None if type(atoms) is Atoms else atoms.copy()
        self._kept = dict(atoms.info), atoms.get_celldisp(), tuple(atoms.constraints)

    def differences(self, atoms: Atoms) -> list[str]:
        """What differs between the structure and `atoms`, to the last bit, by ASE's names."""
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
        """A copy of the atoms as they were, always the same object; without a calculator."""
        if self._atoms is None:
            frame, (info, shift, constraints) = self.frame, self._kept
            made = Atoms(cell=frame.cell, pbc=frame.pbc, info=info, celldisp=shift)
            made.arrays = {"numbers": frame.numbers.copy(), "positions": frame.positions.copy()}
            made.arrays.update({name: array.copy() for name, array in self.others.items()})
            made.constraints = copy.deepcopy(list(constraints))
            self._atoms = made
        return self._atoms


def differences(before: Snapshot | None, atoms: Atoms) -> list[str]:
    """As `Snapshot.differences`; everything where nothing was calculated before."""
    return list(all_changes) if before is None else before.differences(atoms)


def _same(one: NDArray[np.generic] | None, other: NDArray[np.generic] | None) -> bool:
    """Both absent, or equal."""
    if one is None or other is None:
        return one is other
    return equal(one, other)
