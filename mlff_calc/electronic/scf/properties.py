"""Orbitals, densities and charges of Fock matrices, for one molecule or a batch of molecules of the same kind.

All functions take numpy arrays or torch tensors in float64, with any number of leading axes for the batch, and give the
same kind back. Matrices are in atomic orbitals, atom by atom; the order within an atom does not matter. Energies are in
Hartree. Molecules are closed shells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlff_calc.errors import OptionError

THRESHOLD = 1e-8
"""Smallest eigenvalue of an overlap matrix whose direction is used; a larger value leaves out more of the basis."""
FAR = 1e6
"""Energy of orbitals that were left out, Hartree: above all others, so that they are never occupied."""
NARROW = 0.1
"""Smallest gap in an estimate of energies, Hartree; smaller ones, of which wrong matrices have many, count as this."""

Array = Any
"""numpy array or torch tensor of float64."""


@dataclass(frozen=True)
class Orbitals:
    """Molecular orbitals.

    Attributes:
        energies: Orbital energies [..., n], ascending, Hartree; `FAR` for directions that were left out.
        coefficients: Coefficients [..., n, n], one orbital a column, C^T S C = 1; zero for those that were left out.
    """

    energies: Array
    coefficients: Array


@dataclass(frozen=True)
class Frontier:
    """Energies at the gap, Hartree.

    Attributes:
        homo: Highest occupied orbital [...].
        lumo: Lowest unoccupied orbital [...]; NaN where the basis has no unoccupied orbital.
        gap: Difference of both [...].
    """

    homo: Array
    lumo: Array
    gap: Array


def power(overlap: Array, exponent: float, threshold: float = THRESHOLD) -> Array:
    """Return a power of an overlap matrix, zero along directions with an eigenvalue below the threshold.

    Args:
        overlap: Overlap matrix [..., n, n].
        exponent: Exponent; -0.5 is Loewdin's orthogonalisation.
        threshold: Smallest eigenvalue that is used.
    """
    values, vectors = _eigh(overlap)
    used = values > threshold
    scaled = _where(used, _where(used, values, threshold) ** exponent, 0.0)
    return (vectors * scaled[..., None, :]) @ _transpose(vectors)


def orbitals(fock: Array, overlap: Array, threshold: float = THRESHOLD) -> Orbitals:
    """Solve F C = S C e by Loewdin's symmetric orthogonalisation.

    Args:
        fock: Fock matrix [..., n, n], Hartree; its symmetric part is used.
        overlap: Overlap matrix [..., n, n].
        threshold: Smallest eigenvalue of the overlap whose direction is used. Others would amplify errors of a predicted
            matrix by its inverse.

    Raises:
        OptionError: Shapes differ, or values are not finite.
    """
    _check(fock, overlap)
    values, vectors = _eigh(overlap)
    used = values > threshold
    scaled = _where(used, _where(used, values, threshold) ** -0.5, 0.0)
    to_orthogonal = (vectors * scaled[..., None, :]) @ _transpose(vectors)
    orthogonal = to_orthogonal @ fock @ to_orthogonal
    left_out = (vectors * _where(used, 0.0 * values, FAR)[..., None, :]) @ _transpose(vectors)
    energies, rotated = _eigh(0.5 * (orthogonal + _transpose(orthogonal)) + left_out)
    return Orbitals(energies, to_orthogonal @ rotated)


def occupied(n_electrons: int, n_orbitals: int) -> int:
    """Return the number of doubly occupied orbitals.

    Raises:
        OptionError: The number of electrons is odd, or there are more than the orbitals hold.
    """
    if n_electrons % 2:
        raise OptionError(
            f"{n_electrons} electrons are not a closed shell; only closed shells are supported: give the molecule a charge, "
            "or leave it out"
        )
    if not 0 < n_electrons <= 2 * n_orbitals:
        raise OptionError(f"{n_electrons} electrons do not fit into {n_orbitals} orbitals; check the charge and the basis")
    return n_electrons // 2


def frontier(energies: Array, n_electrons: int) -> Frontier:
    """Return the energies of HOMO and LUMO and the gap.

    Args:
        energies: Orbital energies [..., n], ascending, Hartree.
        n_electrons: Number of electrons, even.
    """
    n = occupied(n_electrons, energies.shape[-1])
    homo = energies[..., n - 1]
    lumo = energies[..., n] if n < energies.shape[-1] else homo * float("nan")
    return Frontier(homo, lumo, lumo - homo)


def density(coefficients: Array, n_electrons: int) -> Array:
    """Return the density matrix P = 2 C_occ C_occ^T.

    Args:
        coefficients: Orbitals [..., n, n_orbitals], lowest first.
        n_electrons: Number of electrons, even.
    """
    filled = coefficients[..., : occupied(n_electrons, coefficients.shape[-1])]
    return 2.0 * filled @ _transpose(filled)


def residual(fock: Array, density: Array, overlap: Array) -> Array:
    """Return |F P S - S P F| [...] in Hartree, which is zero for a self-consistent density.

    The norm is that of the whole matrix (Frobenius).
    """
    product = fock @ density @ overlap
    difference = product - _transpose(product)
    return (difference * difference).sum(-1).sum(-1) ** 0.5


def energy_excess(fock: Array, density: Array, overlap: Array, n_electrons: int) -> Array:
    """Estimate by how much the energy of a density is above the self-consistent one [...], Hartree.

    This is the second-order energy of the rotation between occupied and unoccupied orbitals, 2 sum_ia F_ia^2 / (e_a - e_i),
    with the Fock matrix of the density itself, in orbitals that diagonalise its occupied and unoccupied blocks. A density
    that is not idempotent (minao's) is replaced by its natural orbitals. Unlike |F P S - S P F| it has the weights of an
    energy: errors that mix close orbitals count for more.

    Args:
        fock: Fock matrix of the density [..., n, n], Hartree.
        density: Density matrix [..., n, n].
        overlap: Overlap matrix [..., n, n].
        n_electrons: Number of electrons, even.
    """
    n = occupied(n_electrons, overlap.shape[-1])
    root, inverse = power(overlap, 0.5), power(overlap, -0.5)
    _, natural = _eigh(root @ density @ root)
    empty, filled = natural[..., :-n], natural[..., -n:]
    orthogonal = inverse @ fock @ inverse
    low, left = _eigh(_transpose(filled) @ orthogonal @ filled)
    high, right = _eigh(_transpose(empty) @ orthogonal @ empty)
    mixing = _transpose(filled @ left) @ orthogonal @ (empty @ right)
    gaps = (high[..., None, :] - low[..., :, None]).clip(NARROW)
    return 2.0 * (mixing * mixing / gaps).sum(-1).sum(-1)


def mulliken_charges(density: Array, overlap: Array, nuclear_charges: Array, atom_of_orbital: Array) -> Array:
    """Return Mulliken's charges [..., n_atoms], e.

    Args:
        density: Density matrix [..., n, n].
        overlap: Overlap matrix [..., n, n].
        nuclear_charges: Charges of the nuclei [n_atoms] (atomic numbers), e.
        atom_of_orbital: Number of the atom of each orbital [n].
    """
    return _charges((density * overlap).sum(-1), nuclear_charges, atom_of_orbital)


def loewdin_charges(density: Array, overlap: Array, nuclear_charges: Array, atom_of_orbital: Array) -> Array:
    """Return Loewdin's charges [..., n_atoms], e; arguments as those of `mulliken_charges`."""
    root = power(overlap, 0.5)
    return _charges(((root @ density) * root).sum(-1), nuclear_charges, atom_of_orbital)


def _charges(populations: Array, nuclear_charges: Array, atom_of_orbital: Array) -> Array:
    """Nuclear charges minus the sums of populations [..., n] over the orbitals of each atom."""
    owner, nuclei = np.asarray(atom_of_orbital), np.asarray(nuclear_charges, dtype=np.float64)
    belongs = (owner[:, None] == np.arange(len(nuclei))).astype(np.float64)
    if isinstance(populations, torch.Tensor):
        like = populations
        return torch.as_tensor(nuclei).to(like) - populations @ torch.as_tensor(belongs).to(like)
    return nuclei - populations @ belongs


def _check(fock: Array, overlap: Array) -> None:
    if fock.shape != overlap.shape or fock.ndim < 2 or fock.shape[-1] != fock.shape[-2]:
        raise OptionError(
            f"a Fock matrix of shape {list(fock.shape)} and an overlap of shape {list(overlap.shape)} do not belong "
            "together; give both for the same molecule and basis"
        )
    for name, matrix in (("Fock matrix", fock), ("overlap matrix", overlap)):
        finite = torch.isfinite(matrix) if isinstance(matrix, torch.Tensor) else np.isfinite(matrix)
        if not bool(finite.all()):
            raise OptionError(f"the {name} has values that are not finite; check the structure and the model")


def _eigh(matrix: Array) -> tuple[Array, Array]:
    found = torch.linalg.eigh(matrix) if isinstance(matrix, torch.Tensor) else np.linalg.eigh(matrix)
    return found[0], found[1]


def _transpose(matrix: Array) -> Array:
    return matrix.transpose(-1, -2) if isinstance(matrix, torch.Tensor) else np.swapaxes(matrix, -1, -2)


def _where(condition: Array, one: Array, other: float) -> Array:
    if isinstance(condition, torch.Tensor):
        return torch.where(condition, one, torch.full_like(one, other) if isinstance(one, torch.Tensor) else other)
    return np.where(condition, one, other)
