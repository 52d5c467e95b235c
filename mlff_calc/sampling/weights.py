"""Boltzmann weights of conformers: by energies alone, or by free energies of rigid rotor and harmonic oscillators.

    w_i = g_i exp(-G_i / kT) / sum_j g_j exp(-G_j / kT),     S = -k sum_i w_i ln w_i

with G_i the energy, or the energy with G_vib and G_rot of the minimum. Frequencies below a floor count as the floor, since
soft modes are no harmonic oscillators.

Source: Ribeiro, Marenich, Cramer, Truhlar, J. Phys. Chem. B 115, 14556 (2011) for the floor.
"""

from __future__ import annotations

import numpy as np
from ase import units

from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.sampling.duplicates import rotational_constants
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.systems import FloatArray, Systems

FLOOR = 100.0
"""Lowest frequency of a mode, 1/cm. Raising it takes entropy away from soft modes."""
DISPLACEMENT = 0.005
"""Displacement of an atom for second derivatives, Angstrom. Raising it lowers noise of float32 and adds anharmonicity."""


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


def frequencies(systems: Systems, positions: FloatArray, evaluator: Evaluator) -> list[FloatArray]:
    """Frequencies of minima, by central differences of forces, all displaced structures of one system in one batch.

    Args:
        systems: Molecules.
        positions: Their minima [n_atoms, 3], Angstrom.
        evaluator: Gives forces.

    Returns:
        For each system its frequencies without translations and rotations, rising, 1/cm; negative ones are imaginary.

    Raises:
        SimulationError: A displaced structure cannot be evaluated.
    """
    found = []
    for number in range(len(systems)):
        alone = systems.take(np.array([number]))
        n = int(alone.sizes[0])
        minimum = positions[systems.rows(np.array([number]))]
        moves = DISPLACEMENT * np.eye(3 * n).reshape(3 * n, n, 3)
        displaced = np.concatenate([minimum + moves, minimum - moves]).reshape(-1, 3)
        evaluation = evaluator(_copies(alone, 6 * n), displaced)
        for text in evaluation.problems.values():
            raise SimulationError(f"conformer {number} has no frequencies: {text}")
        forces = evaluation.forces.reshape(2, 3 * n, 3 * n)
        hessian = (forces[1] - forces[0]) / (2.0 * DISPLACEMENT)
        found.append(_modes(0.5 * (hessian + hessian.T), alone.masses, minimum))
    return found


def _copies(system: Systems, n: int) -> Systems:
    """One system `n` times."""
    return system.take(np.zeros(n, dtype=np.intp))


def _modes(hessian: FloatArray, masses: FloatArray, positions: FloatArray) -> FloatArray:
    """Frequencies (1/cm) of a Hessian (eV/Angstrom^2) in the space without translations and rotations."""
    root = np.repeat(np.sqrt(masses), 3)
    centred = positions - (masses[:, None] * positions).sum(axis=0) / masses.sum()
    rigid = [np.tile(axis, len(masses)) * root for axis in np.eye(3)]
    rigid += [np.cross(axis, centred).reshape(-1) * root for axis in np.eye(3)]
    left, sizes, _ = np.linalg.svd(np.array(rigid).T, full_matrices=True)
    inner = left[:, int((sizes > 1e-3 * sizes.max()).sum()) :]  # a linear molecule has five such motions
    squares = np.linalg.eigvalsh(inner.T @ (hessian / root[:, None] / root[None, :]) @ inner)
    hbar = units._hbar * units.J * units.s  # noqa: SLF001 - ASE's name of the constant
    return np.sign(squares) * hbar * np.sqrt(np.abs(squares)) / units.invcm


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
