"""Which conformers are the same: by energy, rotational constants, and the smallest RMSD over symmetries of the molecule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import units
from numpy.typing import NDArray

from mlff_calc.errors import OptionError
from mlff_calc.sampling.identity import with_positions
from mlff_calc.sampling.molecules import Molecule, quiet, rdkit_chem
from mlff_calc.sampling.systems import FloatArray

if TYPE_CHECKING:
    from rdkit.Chem import Mol

KCAL = units.kcal / units.mol
"""One kcal/mol, eV."""
ENERGY = 0.1 * KCAL
"""Largest difference of energy of two conformers that are one, eV. Raising it compares more pairs by their shapes."""
ROTATION = 0.02
"""Largest relative difference of rotational constants of two conformers that are one. Raising it compares more pairs."""
MIRROR = (1.0, 1.0, -1.0)
"""Factors of the axes that make a mirror image."""
MAX_MATCHES = 1000
"""Largest number of symmetries that RMSD looks at. Raising it makes highly symmetric molecules exact, and slow."""


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


def best_rmsd(molecule: Molecule, one: FloatArray, other: FloatArray, heavy: bool = True) -> float:
    """Smallest RMSD (Angstrom) of two conformers [n_atoms, 3], over rotations and symmetries of the bond graph.

    Args:
        molecule: Molecule, whose bonds determine the symmetries.
        one: Positions, Angstrom.
        other: Positions, Angstrom.
        heavy: Whether hydrogens on carbon are left out; other hydrogens distinguish conformers.
    """
    from rdkit.Chem import rdMolAlign

    chem = rdkit_chem()
    first, second = with_positions(molecule, one), with_positions(molecule, other)
    if heavy:
        drop = [
            atom.GetIdx()
            for atom in molecule.mol.GetAtoms()
            if atom.GetAtomicNum() == 1 and all(n.GetAtomicNum() == 6 for n in atom.GetNeighbors())
        ]
        if 0 < len(drop) < molecule.mol.GetNumAtoms():
            first, second = (_without(mol, drop) for mol in (first, second))
    with quiet():
        matches = second.GetSubstructMatches(first, uniquify=False, maxMatches=MAX_MATCHES)
        mapped = [list(enumerate(match)) for match in matches]
        return float(rdMolAlign.GetBestRMS(first, chem.Mol(second), map=mapped or None, maxMatches=MAX_MATCHES))


def _without(mol: Mol, atoms: list[int]) -> Mol:
    """A molecule without some of its atoms."""
    chem = rdkit_chem()
    editable = chem.RWMol(mol)
    for number in sorted(atoms, reverse=True):
        editable.RemoveAtom(number)
    stripped: Mol = editable.GetMol()
    return stripped


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
        if not turn_alike:
            return False
        images = [positions[other], positions[other] * MIRROR] if mirror else [positions[other]]
        return any(best_rmsd(molecule, positions[number], image) <= rmsd for image in images)

    for number in np.argsort(energies, kind="stable").tolist():
        near = [other for other in kept if energies[number] - energies[other] <= ENERGY]
        if not any(equal(number, other) for other in reversed(near)):
            kept.append(number)
    return np.array(kept, dtype=np.intp)
