"""Multiple time steps (r-RESPA): inner steps use a cheap force, and the missing part acts as an impulse per outer step.

With the accurate force F of the structure's calculator, the cheap force G and the difference D = F - G, an outer step of n
inner steps of length dt is

    p += n dt/2 D(x);   n times [p += dt/2 G(x),  x += dt p/m,  p += dt/2 G(x)];   p += n dt/2 D(x).

The scheme is time-reversible and, where both forces are gradients, symplectic; it conserves a shadow of the accurate
energy, and for n = 1 it is velocity Verlet. The outer step must stay well below half the shortest vibrational period:
impulses that act twice per period pump energy into a vibration, however small D is.

Source: Tuckerman, Berne, Martyna, "Reversible multiple time scale molecular dynamics", J. Chem. Phys. 97, 1990 (1992),
Eq. (2.19); constraints by RATTLE as in ASE's velocity Verlet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.md.md import MolecularDynamics
from numpy.typing import NDArray

from mlff_calc.errors import OptionError

if TYPE_CHECKING:
    from mlff_calc.calculators import MLFFCalculator

Array = NDArray[np.float64]


class MultipleTimeSteps(MolecularDynamics):
    """NVE dynamics by r-RESPA.

    A step (`step()`, `nsteps`, calls of observers) is an outer step. Energies and forces of the structure after a step are
    those of its accurate calculator.

    Args:
        atoms: Structure with the accurate calculator.
        timestep: Length of an inner step, in ASE's unit of time.
        cheap: Calculator of the cheap forces, which is called at every inner step.
        interval: Number of inner steps in an outer step, at least 1.
        **options: Options of `MolecularDynamics` (trajectory, logfile, loginterval).

    Attributes:
        dt: Length of an outer step.
        forces: Accurate and cheap forces [2, n_atoms, 3] (eV/Angstrom) at the end of the last step, or at the start of the
            first step. They can be set, so that a new integrator on the same structure need not evaluate them again;
            a calculator whose results depend on its history might return other values.

    Raises:
        OptionError: The interval is below 1, or the time step is not positive.
    """

    def __init__(self, atoms: Atoms, timestep: float, *, cheap: Calculator, interval: int, **options: Any) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise OptionError(f"interval = {interval!r} of multiple time steps; give a whole number of at least 1")
        if not timestep > 0.0:
            raise OptionError(f"timestep = {timestep} of multiple time steps; give a positive number")
        self.inner_dt, self.interval, self.cheap = timestep, interval, cheap
        self._forces: Array | None = None
        self._given = False
        super().__init__(atoms, interval * timestep, **options)

    @property
    def forces(self) -> Array:
        """Accurate and cheap forces at the end of the last step."""
        if self._forces is None:
            self._forces = np.stack(self._evaluate())
        return self._forces

    @forces.setter
    def forces(self, forces: Array) -> None:
        if forces.shape != (2, len(self.atoms), 3):
            raise OptionError(
                f"forces of shape {forces.shape} for {len(self.atoms)} atoms; give the accurate and the cheap ones, "
                f"(2, {len(self.atoms)}, 3)"
            )
        self._forces, self._given = forces, True

    def step(self) -> Array:
        """Make one outer step.

        Returns:
            The accurate forces after it [n_atoms, 3], eV/Angstrom.
        """
        accurate, cheap = self.forces if self._given else self._evaluate()
        self._given = False
        self._kick(accurate - cheap, self.dt)
        for _ in range(self.interval):
            cheap = self._inner_step(cheap)
        accurate = self.atoms.get_forces(md=True)
        self._kick(accurate - cheap, self.dt)
        self._forces = np.stack([accurate, cheap])
        return accurate

    def todict(self) -> dict[str, Any]:
        """Return the description of the dynamics that ASE writes into trajectories."""
        return {**super().todict(), "interval": self.interval}

    def _evaluate(self) -> tuple[Array, Array]:
        """Return both forces at the current positions. Calculators that have just evaluated them return stored results."""
        return self.atoms.get_forces(md=True), self._cheap_forces()

    def _cheap_forces(self) -> Array:
        """Return the forces of the cheap calculator, with the constraints of the structure applied."""
        accurate = self.atoms.calc
        self.atoms.calc = self.cheap
        try:
            return self.atoms.get_forces(md=True)
        finally:
            self.atoms.calc = accurate

    def _kick(self, forces: Array, dt: float) -> None:
        """Advance the momenta by half of `dt`; constraints apply the velocity part of RATTLE."""
        self.atoms.set_momenta(self.atoms.get_momenta() + 0.5 * dt * forces)

    def _inner_step(self, forces: Array) -> Array:
        """Make a step of velocity Verlet with the cheap force, and return the force after it."""
        atoms, dt = self.atoms, self.inner_dt
        momenta = atoms.get_momenta() + 0.5 * dt * forces
        before = atoms.get_positions()
        atoms.set_positions(before + dt * momenta / self.masses)
        if atoms.constraints:  # position part of RATTLE
            momenta = (atoms.get_positions() - before) * self.masses / dt
        atoms.set_momenta(momenta, apply_constraint=False)
        forces = self._cheap_forces()
        self._kick(forces, dt)
        return forces


def truncated_calculator(calculator: Any, n_evaluations: int) -> MLFFCalculator:
    """Return a calculator with the same parameters for the same potential, truncated after a few evaluations of its map.

    Args:
        calculator: `MLFFCalculator` of one potential with a fixed point.
        n_evaluations: Number of evaluations, see `mlff_calc.potential.truncated.truncate`.

    Raises:
        OptionError: The calculator is of another class or a committee, or its potential has no fixed point.
    """
    # imported here, since dynamics with other calculators need no torch
    from mlff_calc.calculators import MLFFCalculator
    from mlff_calc.potential.fixed_point import FixedPointPotential
    from mlff_calc.potential.truncated import truncate

    if not isinstance(calculator, MLFFCalculator):
        raise OptionError(
            f"multiple time steps need a cheap force, and {type(calculator).__name__} has none: use MLFFCalculator with one "
            "potential that has a fixed point (backbone deq), or leave respa out"
        )
    if not isinstance(calculator.potential, FixedPointPotential):
        name = calculator.potential.config["backbone"]["name"]
        raise OptionError(
            f"multiple time steps need a potential with a fixed point, to be truncated; this one has backbone {name}. "
            "Use a potential with backbone deq, or leave respa out"
        )
    parameters = {key: value for key, value in calculator.parameters.items() if key not in ("reuse", "domain")}
    return MLFFCalculator(truncate(calculator.potential, n_evaluations), domain="off", **parameters)
