"""Symmetries of a molecule's bonds: the smallest RMSD of two conformers over them, and how many leave a conformer as it is.

Atoms that can be exchanged have the same element, hydrogens, bonds and charge. Ends of one conjugated group, such as both
oxygens of a carboxylate or nitro group, can be exchanged although bond orders and charges are written on one of them.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mlff_calc.datasets.molecules import Molecule, quiet, rdkit_chem
from mlff_calc.graph.rmsd import rmsds
from mlff_calc.sampling.systems import FloatArray

MAX_MATCHES = 1000
"""Largest number of symmetries that are looked at. Raising it makes highly symmetric molecules exact, and slow."""
SYMMETRIC = 0.125
"""RMSD up to which a conformer counts as unchanged by a symmetry, Angstrom. Raising it takes nearly symmetric conformers
for symmetric."""


@lru_cache(maxsize=64)
def symmetries(molecule: Molecule, heavy: bool = True) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Atoms that distinguish conformers, and their permutations that keep the bonds.

    Args:
        molecule: Its bonds; positions do not matter.
        heavy: Whether hydrogens on carbon are left out; other hydrogens distinguish conformers.

    Returns:
        Numbers of atoms [n_kept], and permutations [n_symmetries, n_kept] of 0 to n_kept - 1, the identity among them.
    """
    chem = rdkit_chem()
    labelled = chem.RWMol(molecule.mol)
    _alike_ends(labelled)
    labels: dict[tuple[int, int, int, bool], int] = {}
    for atom in labelled.GetAtoms():
        hydrogens = sum(n.GetAtomicNum() == 1 for n in atom.GetNeighbors())
        charge = 0 if atom.GetIsAromatic() else atom.GetFormalCharge()  # of rings, it stands on one of several atoms
        label = (atom.GetAtomicNum(), hydrogens, charge, atom.GetIsotope())
        atom.SetIsotope(labels.setdefault(label, len(labels) + 1))
    for atom in labelled.GetAtoms():
        atom.SetFormalCharge(0)
    drop = [
        atom.GetIdx()
        for atom in molecule.mol.GetAtoms()
        if (atom.GetAtomicNum(), atom.GetIsotope()) == (1, 0) and all(n.GetAtomicNum() == 6 for n in atom.GetNeighbors())
    ]
    n_atoms = molecule.mol.GetNumAtoms()
    if not heavy or len(drop) == n_atoms:
        drop = []
    for number in sorted(drop, reverse=True):
        labelled.RemoveAtom(number)
    with quiet():
        found = labelled.GetSubstructMatches(labelled, uniquify=False, maxMatches=MAX_MATCHES)
    kept = np.setdiff1d(np.arange(n_atoms), drop)
    return kept, np.unique(np.array([tuple(range(len(kept))), *found], dtype=np.intp), axis=0)


def renumberings(molecule: Molecule) -> NDArray[np.intp]:
    """Permutations of all atoms that keep the bonds [n_symmetries, n_atoms]; a structure's atoms may be taken in each order.

    Hydrogens on carbon, which do not distinguish conformers, follow their carbon in one order of several.
    """
    kept, permutations = symmetries(molecule)
    n_atoms = molecule.mol.GetNumAtoms()
    orders = np.empty((len(permutations), n_atoms), dtype=np.intp)
    orders[:, kept] = kept[permutations]
    followers = defaultdict(list)
    for number in np.setdiff1d(np.arange(n_atoms), kept).tolist():
        followers[molecule.mol.GetAtomWithIdx(number).GetNeighbors()[0].GetIdx()].append(number)
    for carbon, hydrogens in followers.items():
        orders[:, hydrogens] = [followers[to] for to in orders[:, carbon].tolist()]
    return orders


def is_cut_off(molecule: Molecule) -> bool:
    """Whether a molecule has more symmetries than are looked at."""
    return len(symmetries(molecule)[1]) >= MAX_MATCHES


def _alike_ends(mol: object) -> None:
    """Give ends of conjugated groups one bond order and no charge, in place: N, O or S with one bond to a heavy atom."""
    chem = rdkit_chem()
    for centre in mol.GetAtoms():  # type: ignore[attr-defined]
        ends = defaultdict(list)
        for atom in centre.GetNeighbors():
            hydrogens = sum(n.GetAtomicNum() == 1 for n in atom.GetNeighbors())
            if atom.GetAtomicNum() in (7, 8, 16) and atom.GetDegree() - hydrogens == 1:
                ends[atom.GetAtomicNum(), hydrogens].append(atom)
        for group in ends.values():
            bonds = [mol.GetBondBetweenAtoms(centre.GetIdx(), atom.GetIdx()) for atom in group]  # type: ignore[attr-defined]
            if len({bond.GetBondType() for bond in bonds}) > 1:
                for bond, atom in zip(bonds, group, strict=True):
                    bond.SetBondType(chem.BondType.ONEANDAHALF)
                    atom.SetFormalCharge(0)


def best_rmsd(molecule: Molecule, one: FloatArray, other: FloatArray, heavy: bool = True) -> float:
    """Smallest RMSD (Angstrom) of two conformers [n_atoms, 3], over rotations and symmetries of the bonds.

    Args:
        molecule: Molecule, whose bonds determine the symmetries.
        one: Positions, Angstrom.
        other: Positions, Angstrom.
        heavy: Whether hydrogens on carbon are left out; other hydrogens distinguish conformers.
    """
    kept, permutations = symmetries(molecule, heavy)
    return float(rmsds(one[kept], other[kept][permutations]).min())


def symmetry_number(molecule: Molecule, place: FloatArray) -> int:
    """Number of symmetries of the bonds that a rotation of one conformer [n_atoms, 3] does as well, at least 1.

    Conformers of a molecule with other symmetry numbers occur in other numbers of copies, which are the same but for the
    names of atoms: gauche-anti pentane with its one symmetry twice as often as anti-anti pentane with its two.
    """
    kept, permutations = symmetries(molecule)
    return int((rmsds(place[kept], place[kept][permutations]) <= SYMMETRIC).sum())
