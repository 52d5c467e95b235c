"""Matrices and structures of PySCF in the order of orbitals of this package, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.electronic.orders import Reordering


def permutation(mol: Any) -> NDArray[np.int64]:
    """Return the index in PySCF's order of every orbital [n] in ours."""
    degrees = np.repeat(mol._bas[:, 1], mol._bas[:, 3])  # one entry for each contraction
    return Reordering.of_shells(degrees, "pyscf").index  # all signs are 1


def to_ours(mol: Any, matrix: Any) -> Any:
    """Return a matrix [n, n] of PySCF in our order."""
    order = permutation(mol)
    return np.asarray(matrix)[np.ix_(order, order)]


def to_theirs(mol: Any, matrix: Any) -> Any:
    """Return a matrix [n, n] in our order in that of PySCF."""
    order = np.argsort(permutation(mol))
    return np.asarray(matrix)[np.ix_(order, order)]


def atom_of_orbital(mol: Any) -> NDArray[np.int64]:
    """Return the number of the atom of every orbital [n], in either order."""
    counts = mol.aoslice_by_atom()
    return np.repeat(np.arange(mol.natm), counts[:, 3] - counts[:, 2])


def atoms_of(mol: Any) -> Atoms:
    """Return the nuclei of a molecule as ASE atoms, Angstrom."""
    return Atoms(mol.atom_charges(), mol.atom_coords(unit="Angstrom"), info={"charge": int(mol.charge)})
