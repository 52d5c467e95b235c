"""Base functionals against libxc, and at densities where powers are dangerous."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlff_calc.electronic.functional.bases import BASES, LEAST, ROWS, energy_per_electron, local

NAMES = sorted(BASES)


def densities(n: int = 3000) -> np.ndarray:
    """n, gradient and tau over many orders of magnitude of density, gradient and alpha."""
    random = np.random.default_rng(0)
    density, s = 10 ** random.uniform(-8, 2.5, n), 10 ** random.uniform(-3, 1.5, n)
    directions = random.normal(size=(3, n))
    length = s * 2 * (3 * np.pi**2) ** (1 / 3) * density ** (4 / 3)
    gradient = directions / np.linalg.norm(directions, axis=0) * length
    uniform = 0.3 * (3 * np.pi**2) ** (2 / 3) * density ** (5 / 3)
    return np.vstack([density, gradient, length**2 / (8 * density) + 10 ** random.uniform(-3, 1.3, n) * uniform])


@pytest.mark.parametrize("name", NAMES)
def test_energies_and_derivatives_are_those_of_libxc(name):
    numint = pytest.importorskip("pyscf.dft.numint")
    rho = densities()[: ROWS[name]]
    energies, slopes = numint.NumInt().eval_xc_eff(BASES[name], rho[0] if name == "lda" else rho, deriv=1)[:2]
    own = torch.from_numpy(rho).requires_grad_()
    points = local(own, with_tau=name == "r2scan")
    per_electron = energy_per_electron(name, points)
    (found,) = torch.autograd.grad((points.density * per_electron).sum(), own)
    np.testing.assert_allclose(per_electron.detach(), energies, rtol=1e-11)
    n_rows = len(slopes)
    scale = np.abs(slopes).max(axis=0, keepdims=True) + np.abs(energies)  # derivatives by the gradient cross zero
    assert (np.abs(found.numpy()[:n_rows] - slopes) / scale).max() < 1e-8
    if name == "lda":
        assert not found[1:].any()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_infinite_where_there_is_no_density_and_no_gradient(name):
    rho = torch.zeros(ROWS[name], 6, dtype=torch.float64)
    rho[0] = torch.tensor([0.0, 1e-300, 0.5 * LEAST, 2 * LEAST, 1.0, 1e4])
    rho[1, 3] = 1e-3  # a gradient far above what the density allows
    rho.requires_grad_()
    points = local(rho, with_tau=name == "r2scan")
    energies = points.density * energy_per_electron(name, points)
    (slopes,) = torch.autograd.grad(energies.sum(), rho)
    assert bool(torch.isfinite(energies).all())
    assert bool(torch.isfinite(slopes).all())
    assert not energies[:3].any()
    assert not slopes[:, :3].any()
