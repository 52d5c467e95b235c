"""Labels of molecules by GFN2-xTB, and relaxations by it, in this process (extra `xtb`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from numpy.typing import NDArray

from mlff_calc.datasets.molecules import MoleculeError
from mlff_calc.datasets.motion.trajectories import xtb_calculator
from mlff_calc.errors import StructureError
from mlff_calc.graph.rmsd import FloatArray

RELAXED = 0.05
"""Largest force of a relaxed structure, eV/Angstrom. Raising it takes fewer steps and ends farther from the minimum."""
MOST_STEPS = 100
"""Largest number of steps of a relaxation. Raising it brings soft molecules nearer to their minimum."""


class GFN2:
    """GFN2-xTB for structures of one molecule.

    Args:
        numbers: Atomic numbers [n_atoms].

    Raises:
        OptionError: tblite is not installed.
    """

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        self.numbers, self._calculator = numbers, xtb_calculator()

    def label(self, positions: FloatArray) -> tuple[float, FloatArray]:
        """Energy (eV) and forces [n_atoms, 3] (eV/Angstrom) at positions [n_atoms, 3] (Angstrom).

        Raises:
            StructureError: There is no label; the message says why.
        """
        try:
            return self._label(Atoms(self.numbers, positions))
        except Exception as error:  # tblite raises errors of several packages
            self._calculator = xtb_calculator()  # nothing is left of the failure
            raise StructureError(" ".join(str(error).split())[:200]) from error

    def relaxed(self, start: FloatArray, n_between: int = 0) -> list[FloatArray]:
        """Relax a structure [n_atoms, 3] (Angstrom).

        Args:
            start: Where it begins.
            n_between: Number of structures from the way, its beginning among them; fewer where the way has fewer steps.

        Returns:
            The relaxed structure, then those of the way, in its order.

        Raises:
            MoleculeError: A step has no label (reason `label`).
        """
        atoms, way = Atoms(self.numbers, start), list[Any]()
        atoms.calc = self._calculator
        try:
            with BFGS(atoms, logfile=None) as optimizer:
                for _ in optimizer.irun(fmax=RELAXED, steps=MOST_STEPS):
                    way.append(atoms.positions.copy())
        except Exception as error:  # as above
            self._calculator = xtb_calculator()
            text = " ".join(str(error).split())[:200]
            raise MoleculeError("label", f"GFN2-xTB cannot relax it ({text}); leave it out") from error
        end = way.pop()
        chosen = np.linspace(0, len(way) - 1, min(n_between, len(way))).round().astype(int)
        return [end, *(way[k] for k in chosen)]

    def _label(self, atoms: Atoms) -> tuple[float, FloatArray]:
        atoms.calc = self._calculator
        energy, forces = float(atoms.get_potential_energy()), np.array(atoms.get_forces(), dtype=np.float64)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise StructureError("energy or forces are not finite")
        return energy, forces
