"""Boltzmann weights of conformers: by energies alone, or by free energies of rigid rotor and harmonic oscillators.

    w_i = g_i exp(-G_i / kT) / sum_j g_j exp(-G_j / kT),     S = -k sum_i w_i ln w_i

with G_i the energy, or the energy with G_vib and G_rot of the minimum. Frequencies below a floor count as the floor, since
soft modes are no harmonic oscillators.

Source: Ribeiro, Marenich, Cramer, Truhlar, J. Phys. Chem. B 115, 14556 (2011) for the floor.
"""

from __future__ import annotations

import numpy as np
from ase import units

from mlff_calc.errors import OptionError
from mlff_calc.sampling.duplicates import rotational_constants
from mlff_calc.sampling.systems import FloatArray

FLOOR = 100.0
"""Lowest frequency of a mode, 1/cm. Raising it takes entropy away from soft modes."""


def boltzmann_weights(free_energies: FloatArray, temperature: float) -> FloatArray:
    """Weights [n] of free energies [n] (eV) at a temperature (K); they add up to one.

    Raises:
        OptionError: A temperature that is not positive.
    """
    if not (np.isfinite(temperature) and temperature > 0.0):
        raise OptionError(f"the temperature is {temperature} K; give a positive number")
    exponents = -(free_energies - free_energies.min()) / (units.kB * temperature)
    weights = np.exp(exponents)
    return weights / weights.sum()


def ensemble_entropy(weights: FloatArray) -> float:
    """Entropy of the distribution over conformers, eV/K."""
    positive = weights[weights > 0.0]
    return float(-units.kB * (positive * np.log(positive)).sum())


def rrho_free_energy(
    masses: FloatArray, positions: FloatArray, modes: FloatArray, temperature: float, floor: float = FLOOR
) -> float:
    """Free energy of vibrations and rotation of one minimum, eV, without the terms that all conformers share.

    Args:
        masses: [n_atoms] amu.
        positions: [n_atoms, 3] Angstrom.
        modes: Frequencies, 1/cm.
        temperature: K.
        floor: 1/cm; lower frequencies, imaginary ones too, count as this one.
    """
    kT = units.kB * temperature
    quanta = np.maximum(modes, floor) * units.invcm
    vibration = (0.5 * quanta + kT * np.log1p(-np.exp(-quanta / kT))).sum()
    constants = rotational_constants(masses, positions)
    finite = constants[np.isfinite(constants)]
    rotation = 0.0
    if len(finite) == 3:
        rotation = -kT * 0.5 * np.log(np.pi * kT**3 / finite.prod())
    elif len(finite) == 2:
        rotation = -kT * np.log(kT / finite.mean())
    return float(vibration + rotation)
