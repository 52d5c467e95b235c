"""Which conformers are the same: by energy, rotational constants, and the smallest RMSD over symmetries of the molecule."""

from __future__ import annotations

import numpy as np
from ase import units
from numpy.typing import NDArray

from mlff_calc.datasets.molecules import Molecule
from mlff_calc.errors import OptionError
from mlff_calc.sampling.symmetry import SYMMETRIC, best_rmsd
from mlff_calc.sampling.systems import FloatArray

KCAL = units.kcal / units.mol
"""One kcal/mol, eV."""
ENERGY = 0.1 * KCAL
"""Largest difference of energy of two conformers that are one, eV. Raising it compares more pairs by their shapes."""
ROTATION = 0.02
"""Largest relative difference of rotational constants of two conformers that are one. Raising it compares more pairs."""
NEAR = 4.0
"""Factor of `ENERGY` and of the RMSD of equal conformers up to which two others are nearly alike. Raising it relaxes more
of them further."""
MIRROR = (1.0, 1.0, -1.0)
"""Factors of the axes that make a mirror image."""


def rotational_constants(masses: FloatArray, positions: FloatArray) -> FloatArray:
    """Rotational constants, falling; infinite about the axis of a linear molecule.

    Args:
        masses: [n_atoms] amu.
        positions: [..., n_atoms, 3] Angstrom.

    Returns:
        hbar^2 / 2I as [..., 3] eV.
    """
    centred = positions - (masses[:, None] * positions).sum(axis=-2, keepdims=True) / masses.sum()
    second = np.einsum("i,...ij,...ik->...jk", masses, centred, centred)
    inertia = np.trace(second, axis1=-2, axis2=-1)[..., None, None] * np.eye(3) - second
    moments = np.linalg.eigvalsh(inertia)
    hbar = units._hbar * units.J * units.s  # noqa: SLF001 - ASE's name of the constant
    with np.errstate(divide="ignore"):
        return np.where(moments > 1e-6, hbar**2 / (2.0 * np.maximum(moments, 1e-12)), np.inf)


def distinct(
    molecule: Molecule,
    positions: FloatArray,
    energies: FloatArray,
    masses: FloatArray,
    rmsd: float = 0.125,
    mirror: bool = False,
) -> NDArray[np.intp]:
    """Numbers of the conformers that are left when of each set of equal ones the lowest is kept, by rising energy.

    Two conformers are equal where energies agree within `ENERGY`, rotational constants within `ROTATION` and the RMSD is at
    most `rmsd`. Mirror images are two conformers: both are populated. With `mirror`, one of both is enough.

    Args:
        molecule: Their bonds.
        positions: [n_conformers, n_atoms, 3] Angstrom.
        energies: [n_conformers] eV.
        masses: [n_atoms] amu.
        rmsd: Angstrom.
        mirror: Whether mirror images are equal.

    Raises:
        OptionError: `rmsd` is negative.
    """
    if not rmsd >= 0.0:
        raise OptionError(f"rmsd is {rmsd} Angstrom; give 0 or more")
    constants = rotational_constants(masses, positions)
    kept: list[int] = []

    def equal(number: int, other: int) -> bool:
        one, two = constants[number], constants[other]
        turn_alike = (np.abs(one[np.isfinite(one)] / two[np.isfinite(one)] - 1.0) <= ROTATION).all()
        return bool(turn_alike) and _distance(molecule, positions[number], positions[other], mirror) <= rmsd

    for number in np.argsort(energies, kind="stable").tolist():
        near = [other for other in kept if energies[number] - energies[other] <= ENERGY]
        if not any(equal(number, other) for other in reversed(near)):
            kept.append(number)
    return np.array(kept, dtype=np.intp)


def nearly_alike(
    molecule: Molecule, positions: FloatArray, energies: FloatArray, rmsd: float, mirror: bool = False
) -> NDArray[np.intp]:
    """Numbers of conformers that have another one nearby, so near that they may be one after a closer relaxation.

    Args:
        molecule: Their bonds.
        positions: [n_conformers, n_atoms, 3] Angstrom.
        energies: [n_conformers] eV.
        rmsd: That of equal conformers, Angstrom. A smaller one than `SYMMETRIC` makes no fewer of them nearly alike.
        mirror: Whether mirror images are equal.
    """
    near: set[int] = set()
    reach = NEAR * max(rmsd, SYMMETRIC)  # relaxations are no closer where `rmsd` is small
    for k, place in enumerate(positions if mirror else []):
        if SYMMETRIC < best_rmsd(molecule, place, place * MIRROR) <= NEAR * SYMMETRIC:
            near.add(k)  # it and its mirror image may be one
    for number, other in zip(*np.triu_indices(len(energies), 1), strict=True):
        close = abs(energies[number] - energies[other]) <= NEAR * ENERGY
        if close and _distance(molecule, positions[number], positions[other], mirror) <= reach:
            near |= {int(number), int(other)}
    return np.array(sorted(near), dtype=np.intp)


def _distance(molecule: Molecule, one: FloatArray, other: FloatArray, mirror: bool) -> float:
    """Smallest RMSD of two conformers, with `mirror` that of their mirror images if it is smaller, Angstrom."""
    images = (other, other * MIRROR) if mirror else (other,)
    return min(best_rmsd(molecule, one, image) for image in images)
