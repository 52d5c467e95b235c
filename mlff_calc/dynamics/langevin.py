"""Langevin dynamics that counts the heat its thermostat gives."""

from __future__ import annotations

import numpy as np
from ase.md.langevin import Langevin


class CountingLangevin(Langevin):
    """ASE's Langevin integrator, and beside it the energy that friction and noise have given to the atoms.

    Heat is what energy the atoms gain beyond the work of the forces. Over one step, with f, f' the forces and x, x' the
    positions before and after,

        Q = K' - K - (f + f')/2 . (x' - x) - dt^2/8 (f'^2 - f^2)/m.

    The last two terms are, but for their sign, what the kinetic energy changes by in a step of velocity Verlet. So without
    friction Q is zero, and the total energy less all Q is the total energy; with friction it changes by the error of the
    integration alone, which falls with the square of the timestep. After G. Bussi and M. Parrinello, "Accurate sampling
    using Langevin dynamics", Phys. Rev. E 75, 056707 (2007). Positions, momenta and random numbers are those of ASE's
    class to the last bit.

    Attributes:
        transferred_energy: the sum of Q over all steps, eV; NaN where it is not known.
    """

    transferred_energy = 0.0

    def step(self, forces: np.ndarray | None = None) -> np.ndarray:
        """Make one step.

        Args:
            forces: forces before the step [n_atoms, 3], eV/Angstrom; None asks the calculator.

        Returns:
            The forces after the step.
        """
        atoms = self.atoms
        before = atoms.get_forces(md=True) if forces is None else forces
        positions, kinetic = atoms.get_positions(), self._kinetic_energy()
        after = super().step(before)
        work = 0.5 * float(np.sum((before + after) * (atoms.positions - positions)))
        work += self.dt**2 / 8.0 * float(np.sum((after**2 - before**2) / self.masses))
        self.transferred_energy += self._kinetic_energy() - kinetic - work
        return after

    def _kinetic_energy(self) -> float:
        return 0.5 * float(np.sum(self.atoms.get_momenta() ** 2 / self.masses))
