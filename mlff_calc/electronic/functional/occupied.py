"""The density matrix of the lowest orbitals of a Fock matrix, with a derivative that is stable for degenerate orbitals.

Derivatives of eigenvectors divide by all differences of eigenvalues, which is undefined for degenerate orbitals such as
those of methane. The density depends on the space of occupied orbitals alone:

    dP = 2 sum_ai (C_a C_i^T + C_i C_a^T) (C_a^T dF C_i) / (e_i - e_a),

with occupied orbitals i and empty ones a, so that only the gap between these two kinds is divided by.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LEAST_GAP = 1e-4
"""Smallest gap that is divided by, Hartree. Raising it damps derivatives where occupied and empty orbitals nearly meet."""


class OccupiedDensity(torch.autograd.Function):
    """Density matrix of closed shells, to be called by `occupied_density`."""

    @staticmethod
    def forward(ctx: Any, fock: Tensor, basis: Tensor, n_occupied: int) -> tuple[Tensor, Tensor]:
        """Return the density [n, n] and the occupied orbitals [n, n_occupied], which have no derivative."""
        energies, vectors = torch.linalg.eigh(basis.t() @ fock @ basis)
        coefficients = basis @ vectors
        filled = coefficients[:, :n_occupied]
        ctx.save_for_backward(energies, coefficients)
        ctx.n_occupied = n_occupied
        ctx.mark_non_differentiable(filled)
        return 2.0 * filled @ filled.t(), filled

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        """Map the derivative by the density to that by the Fock matrix."""
        energies, coefficients = ctx.saved_tensors
        n = ctx.n_occupied
        filled, empty = coefficients[:, :n], coefficients[:, n:]
        symmetric = 0.5 * (slopes[0] + slopes[0].t())
        gaps = (energies[n:, None] - energies[None, :n]).clamp(min=LEAST_GAP)
        half = empty @ ((empty.t() @ symmetric @ filled) / -gaps) @ filled.t()
        return 2.0 * (half + half.t()), None, None


def occupied_density(fock: Tensor, basis: Tensor, n_occupied: int) -> tuple[Tensor, Tensor]:
    """Compute the density matrix of closed shells of a Fock matrix.

    Args:
        fock: Fock matrix [n, n], Hartree.
        basis: Orthonormal combinations of orbitals [n, m], as columns.
        n_occupied: Number of occupied orbitals.

    Returns:
        The density matrix [n, n], and the occupied orbitals [n, n_occupied] without derivatives.
    """
    density, filled = OccupiedDensity.apply(fock, basis, n_occupied)
    return density, filled
