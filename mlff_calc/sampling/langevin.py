"""Langevin dynamics of many structures at once, each at its own temperature.

Splitting BAOAB with one evaluation per step: half a kick, half a drift, friction and noise, half a drift, half a kick. Its
error in averages over positions is of second order in the time step, and of fourth for harmonic motion.

| symbol | name in code | unit |
|---|---|---|
| v | `velocities` | Angstrom per ASE's unit of time |
| kT | `temperatures` * kB | eV |
| gamma | `friction` | 1/ps |

Source: Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34-56.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.sampling.evaluators import Evaluation, Evaluator
from mlff_calc.sampling.systems import FloatArray, Systems


class Langevin:
    """Replicas in one batch.

    The total momentum of each system stays zero, so that its kinetic energy has 3 n_atoms - 3 degrees of freedom.

    Args:
        systems: Structures.
        positions: Initial positions [n_atoms, 3], Angstrom; not changed.
        evaluator: Evaluator of energies and forces.
        temperatures: Temperatures [n_systems] or one for all, K.
        timestep: Time step, fs.
        friction: Friction, 1/ps; with a stronger one, velocities lose their correlation faster.
        seed: Seed of velocities and noise.

    Attributes:
        positions: Current positions [n_atoms, 3], Angstrom.
        velocities: Current velocities [n_atoms, 3], ASE's unit.
        energies: Potential energies [n_systems], eV.
        forces: [n_atoms, 3] eV/Angstrom.
        n_steps: Number of steps taken.

    Raises:
        OptionError: A temperature, time step or friction that is not positive.
        SimulationError: Energy or forces of a system are not finite.
        UnknownElementError: An element that the evaluator does not know.
    """

    def __init__(
        self,
        systems: Systems,
        positions: FloatArray,
        evaluator: Evaluator,
        *,
        temperatures: FloatArray | float,
        timestep: float = 0.5,
        friction: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.temperatures = np.broadcast_to(np.asarray(temperatures, dtype=np.float64), (len(systems),)).copy()
        for name, value, unit in (("temperature", self.temperatures.min(), "K"), ("timestep", timestep, "fs"),
                                  ("friction", friction, "1/ps")):  # fmt: skip
            if not (np.isfinite(value) and value > 0.0):
                raise OptionError(f"{name} is {value} {unit}; give a positive number")
        evaluator.check(systems)
        self.systems, self.evaluator = systems, evaluator
        self.timestep, self.friction = timestep * units.fs, friction / (1000.0 * units.fs)
        self.positions = positions.copy()
        self.n_steps = 0
        self._random = np.random.Generator(np.random.Philox(seed))
        self._inverse_mass = 1.0 / systems.masses[:, None]
        self._total_mass = systems.sums(systems.masses)
        self.velocities = self._at_rest(self._spread() * self._random.standard_normal(positions.shape))
        self.energies, self.forces = self._evaluate()

    def run(self, n_steps: int, on_step: Callable[[Langevin], None] | None = None) -> None:
        """Take steps.

        Args:
            n_steps: Number of steps.
            on_step: Function that is called after each step.

        Raises:
            SimulationError: Energy or forces of a system are not finite.
        """
        half, keep = 0.5 * self.timestep, np.exp(-self.friction * self.timestep)
        for _ in range(n_steps):
            self.velocities += half * self._inverse_mass * self.forces
            self.positions += half * self.velocities
            noise = self._spread() * self._random.standard_normal(self.positions.shape)
            self.velocities = self._at_rest(keep * self.velocities + np.sqrt(1.0 - keep**2) * noise)
            self.positions += half * self.velocities
            self.n_steps += 1
            self.energies, self.forces = self._evaluate()
            self.velocities += half * self._inverse_mass * self.forces
            if on_step is not None:
                on_step(self)

    def place(self, positions: FloatArray) -> None:
        """Go on from other positions [n_atoms, 3] (Angstrom) with new velocities."""
        self.positions = positions.copy()
        self.velocities = self._at_rest(self._spread() * self._random.standard_normal(positions.shape))
        self.energies, self.forces = self._evaluate()

    def frames(self) -> list[Atoms]:
        """The present structures as ASE's atoms, with their energies (eV) and forces (eV/Angstrom)."""
        found = []
        for number, energy in enumerate(self.energies):
            atoms, rows = self.systems.atoms(number, self.positions), self.systems.rows(np.array([number]))
            atoms.calc = SinglePointCalculator(atoms, energy=float(energy), forces=self.forces[rows])
            found.append(atoms)
        return found

    def kinetic_energies(self) -> FloatArray:
        """Kinetic energies [n_systems], eV."""
        return 0.5 * self.systems.sums(self.systems.masses * np.einsum("ij,ij->i", self.velocities, self.velocities))

    def set_temperatures(self, temperatures: FloatArray) -> None:
        """Give every system a temperature (K), and velocities scaled to it."""
        self.velocities *= self.systems.spread(np.sqrt(temperatures / self.temperatures))
        self.temperatures = temperatures.copy()

    def _spread(self) -> FloatArray:
        """Standard deviation of each atom's velocity at its temperature [n_atoms, 1]."""
        return np.sqrt(self.systems.spread(self.temperatures) * units.kB * self._inverse_mass)

    def _at_rest(self, velocities: FloatArray) -> FloatArray:
        """Velocities without the motion of each system as a whole."""
        momenta = self.systems.sums(self.systems.masses[:, None] * velocities)
        return velocities - (momenta / self._total_mass[:, None]).take(self.systems.index, axis=0)

    def _evaluate(self) -> tuple[FloatArray, FloatArray]:
        found: Evaluation = self.evaluator(self.systems, self.positions)
        for number, text in found.problems.items():
            raise SimulationError(
                f"system {number} broke down at step {self.n_steps}: {text}; lower the time step or the temperature "
                f"({self.temperatures[number]:g} K)"
            )
        if not (np.isfinite(found.energies).all() and np.isfinite(self.positions).all()):
            raise SimulationError(f"energies or positions are not finite at step {self.n_steps}; lower the time step")
        return found.energies, found.forces
