"""Drift of an energy that should stay constant, and an energy of velocity Verlet that oscillates less."""

from __future__ import annotations

import numpy as np

from mlff_calc.dynamics.observables.statistics import Slope, linear_fit
from mlff_calc.errors import OptionError


def energy_drift(time_ps: np.ndarray, energy_eV: np.ndarray, n_atoms: int) -> Slope:
    """Compute the drift by a linear fit.

    Args:
        time_ps: Times, ps, [n].
        energy_eV: Total or conserved energy, eV, [n].
        n_atoms: Number of atoms.

    Returns:
        Slope and its standard error in meV/atom/ps, and the fit's value at time zero in meV/atom.

    Raises:
        OptionError: There are fewer than two different times.
    """
    fit = linear_fit(time_ps, np.asarray(energy_eV, dtype=float))
    factor = 1000.0 / n_atoms
    return Slope(factor * fit.slope, factor * fit.error, factor * fit.intercept)


def shadow_energy(
    energy: np.ndarray, velocities: np.ndarray, forces: np.ndarray, masses: np.ndarray, timestep: float
) -> np.ndarray:
    """Compute the energy that velocity Verlet conserves to fourth order in the time step.

    The total energy oscillates with the square of the time step, which hides small drifts in short runs. To the next order

        H + dt^2 (v K v / 12 - F M^-1 F / 24),    v K v = -v dF/dt,

    is conserved, with the change of the forces from the steps before and after.

    Args:
        energy: Total energies of consecutive steps [n], eV.
        velocities: Velocities [n, n_atoms, 3], in ASE's unit.
        forces: Forces [n, n_atoms, 3], eV/Angstrom.
        masses: Masses [n_atoms], amu.
        timestep: Time step, in ASE's unit (0.5 fs are `0.5 * ase.units.fs`).

    Returns:
        Energies of all steps but the first and the last [n - 2], eV.

    Raises:
        OptionError: There are fewer than three steps.

    Source:
        R. D. Engle, R. D. Skeel, M. Drees, J. Comput. Phys. 206, 432 (2005).
    """
    energy, velocities, forces = (np.asarray(one, dtype=float) for one in (energy, velocities, forces))
    if len(energy) < 3:
        raise OptionError(f"the shadow energy needs three consecutive steps, got {len(energy)}. Give a longer series.")
    slope = (forces[2:] - forces[:-2]) / (2.0 * timestep)
    stiffness = -(velocities[1:-1] * slope).sum(axis=(1, 2))
    push = (forces[1:-1] ** 2).sum(axis=2) @ (1.0 / np.asarray(masses, dtype=float))
    found: np.ndarray = energy[1:-1] + timestep**2 * (stiffness / 12.0 - push / 24.0)
    return found
