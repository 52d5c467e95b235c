"""Spherical harmonics: those of e3nn, Legendre polynomials as inner products, smooth everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3
from numpy.polynomial.legendre import Legendre
from torch import Tensor

from mlff_calc.nn.coupling import HIGHEST_DEGREE
from mlff_calc.nn.edges import EdgeBasis, safe_lengths
from mlff_calc.nn.harmonics import SphericalHarmonics, degree_selector

AXES = torch.cat([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])


def directions(n: int = 100, seed: int = 0) -> Tensor:
    points = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.nn.functional.normalize(points, dim=1), AXES])


@pytest.mark.parametrize("l_max", [0, 1, 2, 3, 6, HIGHEST_DEGREE])
def test_they_are_those_of_e3nn(l_max: int) -> None:
    expected = o3.spherical_harmonics(list(range(l_max + 1)), directions(), normalize=True, normalization="norm")
    found = SphericalHarmonics(l_max)(directions())
    torch.testing.assert_close(found, expected[:, 1:], rtol=0, atol=1e-10)


def test_degree_one_is_the_direction() -> None:
    assert torch.equal(SphericalHarmonics(1)(directions()), directions())


def test_inner_products_are_legendre_polynomials() -> None:
    one, other = directions(), directions(seed=1)
    products = SphericalHarmonics(6)(one) * SphericalHarmonics(6)(other)
    by_degree = (products @ degree_selector(6).double()).numpy()
    cosines = (one * other).sum(dim=1).numpy()
    for degree in range(1, 7):
        np.testing.assert_allclose(by_degree[:, degree - 1], Legendre.basis(degree)(cosines), rtol=0, atol=1e-10)


def test_derivatives_are_finite_along_axes_and_without_direction() -> None:
    points = torch.cat([AXES, torch.zeros(1, 3).double()]).requires_grad_()
    values = SphericalHarmonics(6)(points)
    values.square().sum().backward()
    assert torch.isfinite(points.grad).all()
    assert values[-1].abs().max() == 0.0


def test_coincident_atoms_have_no_direction() -> None:
    edges = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.4, 0.0]], dtype=torch.float64, requires_grad=True)
    rays = EdgeBasis(4.0, 6, 5)(edges)
    (rays.basis.sum() + rays.envelope.sum() + rays.directions.square().sum()).backward()
    for values in (*rays, edges.grad):
        assert torch.isfinite(values).all()
    assert rays.directions[0].abs().max() == 0.0
    assert safe_lengths(edges)[1].item() == pytest.approx(0.5)
    torch.testing.assert_close(rays.directions[1].detach(), torch.tensor([0.6, 0.8, 0.0]).double())
