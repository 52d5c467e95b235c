"""Edge frames: rotations, Wigner matrices and their action on spherical harmonics."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

from mlff_calc.nn.frames import EdgeFrames, edge_rotations, reduced_orders

AXES = torch.cat([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])


def directions(n: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    return torch.cat([torch.nn.functional.normalize(points, dim=1), AXES])


def test_rotations_take_the_edge_to_y() -> None:
    unit = directions()
    rotation = edge_rotations(unit)
    expected = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(len(unit), 3)
    torch.testing.assert_close(torch.einsum("eij,ej->ei", rotation, unit), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(
        rotation @ rotation.mT, torch.eye(3).double().expand(len(unit), 3, 3), rtol=0, atol=1e-13
    )
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(unit)).double(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("l_max", [0, 1, 2, 3, 4])
def test_wigner_matrices_turn_spherical_harmonics(l_max: int) -> None:
    unit = directions()
    frames = EdgeFrames(l_max, l_max)
    wigner = frames(unit)
    points = torch.nn.functional.normalize(torch.randn(len(unit), 3, dtype=torch.float64), dim=1)
    degrees = list(range(l_max + 1))
    before = o3.spherical_harmonics(degrees, points, normalize=True)
    turned = torch.einsum("eij,ej->ei", edge_rotations(unit), points)
    rows = [degree * degree + degree + m for degree, m in reduced_orders(l_max, l_max)]
    after = o3.spherical_harmonics(degrees, turned, normalize=True)[:, rows]
    torch.testing.assert_close(torch.einsum("erm,em->er", wigner, before), after, rtol=0, atol=1e-10)


def test_truncated_orders_are_rows_of_the_full_matrix() -> None:
    unit = directions()
    full, cut = EdgeFrames(3, 3), EdgeFrames(3, 1)
    keep = [reduced_orders(3, 3).index(order) for order in reduced_orders(3, 1)]
    torch.testing.assert_close(cut(unit), full(unit)[:, keep], rtol=0, atol=0)


def test_gradients_are_finite_along_axes() -> None:
    unit = AXES.clone().requires_grad_()
    EdgeFrames(3, 3)(unit).square().sum().backward()
    assert torch.isfinite(unit.grad).all()
