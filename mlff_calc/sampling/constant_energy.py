"""Dynamics of many structures at constant energy, by velocity Verlet.

Source: Swope et al., "A computer simulation method for the calculation of equilibrium constants", J. Chem. Phys. 76, 637
(1982).
"""

from __future__ import annotations

from collections.abc import Callable

from ase import units

from mlff_calc.errors import SimulationError
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.systems import FloatArray, Systems


class ConstantEnergy:
    """Structures that move in one batch.

    Args:
        systems: Structures.
        positions: Initial positions [n_atoms, 3], Angstrom; not changed.
        velocities: Initial velocities [n_atoms, 3], Angstrom/fs; not changed.
        evaluator: Evaluator of energies and forces.
        timestep: Time step, fs.

    Attributes:
        positions: Current positions [n_atoms, 3], Angstrom.
        velocities: Current velocities [n_atoms, 3], Angstrom/fs.
        energies: Potential energies [n_systems], eV.

    Raises:
        SimulationError: Energy or forces of a system are not finite.
        UnknownElementError: An element that the evaluator does not know.
    """

    def __init__(
        self, systems: Systems, positions: FloatArray, velocities: FloatArray, evaluator: Evaluator, timestep: float = 0.5
    ) -> None:
        evaluator.check(systems)
        self.systems, self.evaluator, self.timestep = systems, evaluator, timestep
        self.positions, self.velocities = positions.copy(), velocities.copy()
        self._pull = units.fs**2 / systems.masses[:, None]  # from eV/Angstrom to Angstrom/fs^2
        self._evaluate(0)

    def run(self, n_steps: int, on_step: Callable[[ConstantEnergy], None] | None = None) -> None:
        """Take steps.

        Args:
            n_steps: Number of steps.
            on_step: Function that is called after each step.

        Raises:
            SimulationError: Energy or forces of a system are not finite.
        """
        half = 0.5 * self.timestep
        for step in range(1, n_steps + 1):
            self.velocities += half * self._acceleration
            self.positions += self.timestep * self.velocities
            self._evaluate(step)
            self.velocities += half * self._acceleration
            if on_step is not None:
                on_step(self)

    def _evaluate(self, step: int) -> None:
        found = self.evaluator(self.systems, self.positions)
        for number, text in found.problems.items():
            raise SimulationError(f"structure {number} at step {step} of constant energy: {text}")
        self.energies, self._acceleration = found.energies, self._pull * found.forces
