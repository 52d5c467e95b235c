"""The density of occupied orbitals, and recorded self-consistent fields, without PySCF."""

from __future__ import annotations

import torch

from mlff_calc.electronic.functional.occupied import occupied_density


def symmetric(n: int, seed: int) -> torch.Tensor:
    one = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return one + one.t()


def test_the_density_is_that_of_the_lowest_orbitals_with_derivatives_for_degenerate_ones_too() -> None:
    """Occupied orbitals are degenerate in pairs, as are empty ones; plain derivatives of eigenvectors are NaN there."""
    vectors = torch.linalg.eigh(symmetric(6, 0))[1]
    fock = (vectors * torch.tensor([-2.0, -1.0, -1.0, 0.5, 0.5, 0.5], dtype=torch.float64)) @ vectors.t()
    basis = torch.linalg.inv(torch.linalg.cholesky(torch.eye(6, dtype=torch.float64) + 0.05 * symmetric(6, 1))).t()
    fock = torch.linalg.inv(basis).t() @ fock @ torch.linalg.inv(basis)
    fock.requires_grad_()
    density, filled = occupied_density(fock, basis, 3)
    overlap = torch.linalg.inv(basis @ basis.t())
    torch.testing.assert_close(density @ overlap @ density, 2.0 * density)
    torch.testing.assert_close((density * overlap).sum(), torch.tensor(6.0, dtype=torch.float64))
    assert not filled.requires_grad
    weights, change, step = symmetric(6, 2), symmetric(6, 3), 1e-4
    (slope,) = torch.autograd.grad((density * weights).sum(), fock)
    ends = [(occupied_density(fock.detach() + sign * step * change, basis, 3)[0] * weights).sum() for sign in (1, -1)]
    torch.testing.assert_close((slope * change).sum(), (ends[0] - ends[1]) / (2.0 * step), rtol=1e-6, atol=1e-8)
