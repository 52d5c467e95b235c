"""SO(2) layers commute with rotations about the edge and, with `mirror`, with reflections in planes through it."""

from __future__ import annotations

import pytest
import torch

from mlff_calc.nn.frames import reduced_orders
from mlff_calc.nn.so2 import SO2Linear


def turn_about_y(features: torch.Tensor, l_max: int, m_max: int, angle: float) -> torch.Tensor:
    """Rotate the pair (+m, -m) of every degree by m times the angle."""
    orders = reduced_orders(l_max, m_max)
    out = features.clone()
    for row, (degree, m) in enumerate(orders):
        if m > 0:
            other = orders.index([degree, -m])
            cos, sin = torch.cos(torch.tensor(m * angle)).double(), torch.sin(torch.tensor(m * angle)).double()
            out[:, row] = cos * features[:, row] - sin * features[:, other]
            out[:, other] = sin * features[:, row] + cos * features[:, other]
    return out


def mirror(features: torch.Tensor, l_max: int, m_max: int) -> torch.Tensor:
    signs = torch.tensor([1.0 if m >= 0 else -1.0 for _, m in reduced_orders(l_max, m_max)]).double()
    return features * signs.view(1, -1, 1)


@pytest.mark.parametrize(("l_max", "m_max"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 1)])
@pytest.mark.parametrize("mirrored", [True, False])
def test_so2_linear_commutes(l_max: int, m_max: int, mirrored: bool) -> None:
    torch.manual_seed(0)
    layer = SO2Linear(l_max, m_max, 3, 5, extra_scalars=4, mirror=mirrored).double()
    torch.nn.init.normal_(layer.bias_0)
    features = torch.randn(7, len(reduced_orders(l_max, m_max)), 3, dtype=torch.float64)
    out, extra = layer(features)
    assert out.shape == (7, features.shape[1], 5)
    turned, turned_extra = layer(turn_about_y(features, l_max, m_max, 0.7))
    torch.testing.assert_close(turned, turn_about_y(out, l_max, m_max, 0.7))
    torch.testing.assert_close(turned_extra, extra)
    reflected, _ = layer(mirror(features, l_max, m_max))
    same = torch.allclose(reflected, mirror(out, l_max, m_max))
    assert same == (mirrored or m_max == 0)


def test_mirror_layer_has_no_imaginary_weights() -> None:
    layer = SO2Linear(2, 2, 3, 5)
    assert all(order.imaginary.numel() == 0 for order in layer.orders)


def test_no_edges() -> None:
    out, extra = SO2Linear(2, 2, 3, 5, extra_scalars=2)(torch.zeros(0, 9, 3))
    assert out.shape == (0, 9, 5)
    assert extra.shape == (0, 2)
