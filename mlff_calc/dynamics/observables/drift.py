"""Drift of an energy that should stay constant."""

from __future__ import annotations

import numpy as np

from mlff_calc.dynamics.observables.statistics import Slope, linear_fit


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
