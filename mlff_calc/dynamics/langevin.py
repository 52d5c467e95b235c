"""Langevin dynamics that record the heat supplied by the thermostat."""

from __future__ import annotations

import numpy as np
from ase.md.langevin import Langevin


class CountingLangevin(Langevin):
    """ASE's Langevin integrator, which also records the energy that friction and noise have supplied to the atoms.

    Heat Q is the energy that the atoms gain in addition to the work of the forces. Over one step, with forces f, f' and
    positions x, x' before and after it,

        Q = K' - K - (f + f')/2 . (x' - x) - dt^2/8 (f'^2 - f^2)/m.

    The last two terms subtract the change of the kinetic energy in a step of velocity Verlet. Without friction, Q is
    therefore zero. With friction, the total energy minus the sum of Q changes only by the error of the integration, which
    falls with the square of the timestep. Source: G. Bussi and M. Parrinello, "Accurate sampling using Langevin dynamics",
    Phys. Rev. E 75, 056707 (2007). Positions, momenta and random numbers are identical to those of ASE's class, bit by bit.

    Attributes:
        transferred_energy: Sum of Q over all steps, eV; NaN where it is not known.
    """

    transferred_energy = 0.0

    def step(self, forces: np.ndarray | None = None) -> np.ndarray:
        """Make one step.

        Args:
            forces: Forces before the step [n_atoms, 3], eV/Angstrom; None computes them with the calculator.

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
