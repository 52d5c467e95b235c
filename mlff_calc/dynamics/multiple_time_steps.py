"""Multiple time steps (r-RESPA): a cheap force at every inner step, what it lacks as an impulse at every outer one.

With the accurate force F of the structure's calculator, the cheap force G and the impulse D = F - G, an outer step of n
inner steps of length dt is

    p += n dt/2 D(x);   n times [p += dt/2 G(x),  x += dt p/m,  p += dt/2 G(x)];   p += n dt/2 D(x).

It is time-reversible and symplectic where both forces are gradients, conserves a shadow of the accurate energy, and is
velocity Verlet for n = 1. The outer step must stay well below half the shortest period in D: impulses twice a period pump
energy into a vibration, however small D is.

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

    A step (`step()`, `nsteps`, what observers see) is an outer step. Energies and forces that the structure shows then are
    those of its own, accurate calculator.

    Args:
        atoms: the structure with the accurate calculator.
        timestep: of an inner step, ASE's unit of time.
        cheap: gives the cheap forces; called with the structure at every inner step.
        interval: inner steps in an outer one, at least 1.
        **options: of `MolecularDynamics` (trajectory, logfile, loginterval).

    Attributes:
        dt: length of an outer step.
        forces: accurate and cheap forces [2, n_atoms, 3] (eV/Angstrom) at the end of the last step, or where the first one
            starts. Setting them saves a new integrator on the same structure the first evaluation of both, which a
            calculator with a history would make with another result.

    Raises:
        OptionError: an interval below 1, or a time step that is not positive.
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
        """What trajectories note about the run."""
        return {**super().todict(), "interval": self.interval}

    def _evaluate(self) -> tuple[Array, Array]:
        """Both forces where the atoms stand; neither costs anything where the calculators have just been there."""
        return self.atoms.get_forces(md=True), self._cheap_forces()

    def _cheap_forces(self) -> Array:
        """Forces of the cheap calculator, constrained as those of the structure's own."""
        accurate = self.atoms.calc
        self.atoms.calc = self.cheap
        try:
            return self.atoms.get_forces(md=True)
        finally:
            self.atoms.calc = accurate

    def _kick(self, forces: Array, dt: float) -> None:
        """Half a step of length `dt` for the momenta; RATTLE's velocity part where there are constraints."""
        self.atoms.set_momenta(self.atoms.get_momenta() + 0.5 * dt * forces)

    def _inner_step(self, forces: Array) -> Array:
        """A step of velocity Verlet with the cheap force; returns the force after it."""
        atoms, dt = self.atoms, self.inner_dt
        momenta = atoms.get_momenta() + 0.5 * dt * forces
        before = atoms.get_positions()
        atoms.set_positions(before + dt * momenta / self.masses)
        if atoms.constraints:  # the positions' part of RATTLE
            momenta = (atoms.get_positions() - before) * self.masses / dt
        atoms.set_momenta(momenta, apply_constraint=False)
        forces = self._cheap_forces()
        self._kick(forces, dt)
        return forces


def truncated_calculator(calculator: Any, n_evaluations: int) -> MLFFCalculator:
    """The calculator of the same potential cut off after a few evaluations, with the same parameters.

    Args:
        calculator: an `MLFFCalculator` of one potential with a fixed point.
        n_evaluations: see `mlff_calc.potential.truncated.truncate`.

    Raises:
        OptionError: another calculator, a committee, or a potential that cannot be truncated.
    """
    from mlff_calc.calculators import MLFFCalculator  # here, for torch: dynamics with other calculators do without it
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
