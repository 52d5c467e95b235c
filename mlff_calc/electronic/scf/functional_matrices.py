"""Matrices of molecules for self-consistent fields in torch (`electronic/functional/unrolled.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mlff_calc.electronic.functional.model import FunctionalNetwork
from mlff_calc.electronic.functional.unrolled import Molecule
from mlff_calc.electronic.scf.functional_engine import rks
from mlff_calc.electronic.scf.grid_orbitals import Factors, GridOrbitals
from mlff_calc.electronic.scf.mean_field import no_file
from mlff_calc.electronic.scf.pyscf_door import build_mole
from mlff_calc.errors import OptionError

if TYPE_CHECKING:
    from ase import Atoms

MOST_ORBITALS = 120
"""Largest number of orbitals: repulsions of all pairs take 0.4 GiB then. Raising it takes memory with the fourth power."""
_DEPENDENT = 1e-8


class _OnPoints:
    """Orbitals on points, as `OnPoints` describes them."""

    def __init__(self, orbitals: GridOrbitals) -> None:
        self._orbitals = orbitals
        self.n_bytes = 32 * orbitals.n_orbitals * len(orbitals.positions)

    def rows(self, matrix: Tensor, n_rows: int, filled: Tensor | None = None) -> Tensor:
        if filled is None:
            factors = Factors.of(matrix.numpy())
        else:
            factors = Factors(2.0**0.5 * filled, filled.new_ones(filled.shape[1]))
        return self._orbitals.density(factors, n_rows)

    def matrix(self, slopes: Tensor) -> Tensor:
        return self._orbitals.potential(slopes)


def functional_matrices(functional: FunctionalNetwork, atoms: Atoms) -> Molecule:
    """Compute the matrices of a molecule in the basis and on the grid of a functional.

    Args:
        functional: Functional.
        atoms: Structure, Angstrom; its charge is `info['charge']`.

    Returns:
        The molecule, whose energy is without constants of elements.

    Raises:
        OptionError: PySCF is not installed, or the molecule has more than `MOST_ORBITALS` orbitals.
        StructureError: The structure is not a molecule with paired electrons.
    """
    mf = rks(functional, build_mole(atoms, functional.basis), allow_charge=True)
    no_file(mf)
    return matrices_of(mf)


def matrices_of(mf: Any) -> Molecule:
    """Compute the matrices of a mean field of `rks`; raises an OptionError as `functional_matrices`."""
    mol, n = mf.mol, int(mf.mol.nao)
    if n > MOST_ORBITALS:
        raise OptionError(
            f"the molecule has {n} orbitals, and unrolled fields are for {MOST_ORBITALS} or fewer; train at frozen "
            "densities (densities.loss: frozen), which needs no repulsions of all pairs"
        )
    mf.grids.build(with_non0tab=True)
    place = mf._numint.place(mol, mf.grids)
    overlap = torch.from_numpy(mf.get_ovlp())
    sizes, vectors = torch.linalg.eigh(overlap)
    kept = sizes > _DEPENDENT
    basis = vectors[:, kept] * sizes[kept] ** -0.5
    rows, columns = np.tril_indices(n)
    pairs = torch.zeros((n, n), dtype=torch.int64)
    pairs[rows, columns] = torch.arange(len(rows))
    pairs[columns, rows] = torch.arange(len(rows))
    repulsion = torch.from_numpy(np.ascontiguousarray(mol.intor("int2e", aosym="s4")))
    return Molecule(
        torch.from_numpy(mf.get_hcore()), overlap, basis, repulsion, pairs, float(mol.energy_nuc()),
        mol.nelectron // 2, place.positions, place.weights, place.centres, place.near, _OnPoints(place.orbitals),
    )  # fmt: skip
