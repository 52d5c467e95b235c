"""Kinetic energy, temperature and pressure of a moving structure."""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms, units


class Thermodynamics:
    """Instantaneous quantities of one structure.

    Args:
        atoms: Structure with momenta and a calculator, whose masses do not change.
        n_free: Number of degrees of freedom that carry kinetic energy.
    """

    def __init__(self, atoms: Atoms, n_free: int) -> None:
        self._atoms, self._n_free = atoms, n_free
        self._inverse_masses = 1.0 / atoms.get_masses()[:, None]

    def kinetic(self) -> float:
        """Return the kinetic energy, eV."""
        momenta = self._atoms.arrays["momenta"]
        return 0.5 * float(np.sum(momenta * momenta * self._inverse_masses))

    def temperature(self, kinetic: float) -> float:
        """Return the temperature, K, for a kinetic energy in eV."""
        return 2.0 * kinetic / (self._n_free * units.kB)

    def pressure(self, kinetic: float) -> float:
        """Return the pressure including the ideal-gas part, GPa; NaN if the calculator's results contain no stress.

        Args:
            kinetic: Kinetic energy, eV.
        """
        atoms = self._atoms
        stress = getattr(atoms.calc, "results", {}).get("stress")
        if stress is None or not atoms.pbc.all():
            return math.nan
        stress = np.asarray(stress, dtype=float)
        trace = stress[:3].sum() if stress.shape == (6,) else np.trace(stress.reshape(3, 3))
        return float((2.0 * kinetic / atoms.cell.volume - trace) / 3.0 / units.GPa)
