"""Harmonic modes of molecules, by differences of forces, all displaced structures of one molecule in one batch."""

from __future__ import annotations

import numpy as np
from ase import units

from mlff_calc.errors import SimulationError
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.systems import FloatArray, Systems

DISPLACEMENT = 0.005
"""Displacement of an atom for second derivatives, Angstrom. Raising it lowers noise of float32 and adds anharmonicity."""
SADDLE = -20.0
"""Frequency of the lowest mode, 1/cm, below which a structure counts as a saddle point. Lowering it lets flat ones pass."""
LENGTHS = (0.1, 0.2, 0.3, 0.45, 0.6)
"""Displacements of the atom that moves most along a mode that leads down, Angstrom; the one of lowest energy is taken."""


def frequencies(systems: Systems, positions: FloatArray, evaluator: Evaluator) -> list[FloatArray]:
    """Frequencies of minima, by central differences.

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
        minimum = positions[systems.rows(np.array([number]))]
        step = DISPLACEMENT * np.eye(minimum.size).reshape(-1, *minimum.shape)
        forces = _forces(alone, np.concatenate([minimum + step, minimum - step]), evaluator, number)
        up, down = np.split(forces, 2)
        found.append(_modes((down - up) / (2.0 * DISPLACEMENT), alone.masses, minimum)[0])
    return found


def lowest_mode(
    system: Systems, minimum: FloatArray, evaluator: Evaluator, number: int = 0
) -> tuple[float, FloatArray]:
    """The lowest mode of one structure whose forces are small, by one-sided differences, which cost half of central ones.

    Args:
        system: One molecule of at least two atoms.
        minimum: Its positions [n_atoms, 3], Angstrom.
        evaluator: Gives forces.
        number: Its number in messages.

    Returns:
        Frequency, 1/cm, negative where imaginary; direction [n_atoms, 3], in which the atom that moves most moves by one.

    Raises:
        SimulationError: A displaced structure cannot be evaluated.
    """
    step = DISPLACEMENT * np.eye(minimum.size).reshape(-1, *minimum.shape)
    forces = _forces(system, np.concatenate([minimum[None], minimum + step]), evaluator, number)
    found, ways = _modes((forces[0] - forces[1:]) / DISPLACEMENT, system.masses, minimum)
    return float(found[0]), ways[0]


def ways_down(system: Systems, saddle: FloatArray, way: FloatArray, evaluator: Evaluator) -> FloatArray:
    """Where to relax from on both sides of a saddle point.

    Args:
        system: One molecule.
        saddle: Its positions [n_atoms, 3], Angstrom.
        way: Direction of the mode that leads down [n_atoms, 3], see `lowest_mode`.
        evaluator: Gives energies.

    Returns:
        Up to two structures [n, n_atoms, 3], each the lowest of its side.
    """
    found = []
    for sign in (1.0, -1.0):
        moved = saddle + sign * np.multiply.outer(np.array(LENGTHS), way)
        energies = evaluator(_copies(system, len(moved)), moved.reshape(-1, 3)).energies
        if np.isfinite(energies).any():
            found.append(moved[np.nanargmin(energies)])
    return np.array(found).reshape(-1, *saddle.shape)


def _forces(system: Systems, places: FloatArray, evaluator: Evaluator, number: int) -> FloatArray:
    """Forces [n, 3 n_atoms] on one molecule in several places [n, n_atoms, 3]."""
    evaluation = evaluator(_copies(system, len(places)), places.reshape(-1, 3))
    for text in evaluation.problems.values():
        raise SimulationError(f"conformer {number} has no frequencies: {text}")
    return evaluation.forces.reshape(len(places), -1)


def _copies(system: Systems, n: int) -> Systems:
    """One system `n` times."""
    return system.take(np.zeros(n, dtype=np.intp))


def _modes(hessian: FloatArray, masses: FloatArray, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Frequencies [n] (1/cm) and displacements [n, n_atoms, 3], whose longest is one, without translations and rotations.

    The Hessian (eV/Angstrom^2) may be unsymmetric by the errors of its differences.
    """
    root = np.repeat(np.sqrt(masses), 3)
    centred = positions - (masses[:, None] * positions).sum(axis=0) / masses.sum()
    rigid = [np.tile(axis, len(masses)) * root for axis in np.eye(3)]
    rigid += [np.cross(axis, centred).reshape(-1) * root for axis in np.eye(3)]
    left, sizes, _ = np.linalg.svd(np.array(rigid).T, full_matrices=True)
    inner = left[:, int((sizes > 1e-3 * sizes.max()).sum()) :]  # a linear molecule has five such motions
    symmetric = 0.5 * (hessian + hessian.T) / root[:, None] / root[None, :]
    squares, vectors = np.linalg.eigh(inner.T @ symmetric @ inner)
    hbar = units._hbar * units.J * units.s  # noqa: SLF001 - ASE's name of the constant
    ways = ((inner @ vectors) / root[:, None]).T.reshape(-1, len(masses), 3)
    ways /= np.linalg.norm(ways, axis=2).max(axis=1)[:, None, None]
    return np.sign(squares) * hbar * np.sqrt(np.abs(squares)) / units.invcm, ways
