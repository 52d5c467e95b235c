"""Layers on stacks commute with rotations about the pair and with mirrors, and products are complete."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mlff_calc.electronic.hamiltonian.layers import (
    FrameFeedForward,
    FrameGate,
    FrameNorm,
    FrameProduct,
    StackLinear,
    product_at_angles,
    product_table,
)

M_MAX, PAIRS, WIDTH = 3, 4, 5


def _stack(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * (M_MAX + 1), PAIRS, WIDTH, dtype=torch.float64, generator=generator)


def _turned(stack: Tensor, angle: float) -> Tensor:
    numbers = torch.complex(stack[0::2], stack[1::2])
    phases = torch.exp(1j * angle * torch.arange(M_MAX + 1, dtype=torch.float64)).view(-1, 1, 1)
    turned = numbers * phases
    return torch.stack([turned.real, turned.imag], dim=1).flatten(0, 1)


def _mirrored(stack: Tensor) -> Tensor:
    signs = torch.tensor([1.0, -1.0] * (M_MAX + 1), dtype=torch.float64).view(-1, 1, 1)
    return stack * signs


def _randomized(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(7)
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return layer


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: StackLinear(M_MAX, WIDTH, 3),
    "norm": lambda: FrameNorm(M_MAX, WIDTH),
    "gate": lambda: FrameGate(M_MAX, WIDTH),
    "feed-forward": lambda: FrameFeedForward(M_MAX, WIDTH, 6, 2),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("change", [lambda one: _turned(one, 0.83), _mirrored])
def test_layers_commute_with_the_symmetries_of_a_pair(name: str, change: Callable[[Tensor], Tensor]) -> None:
    layer, stack = _randomized(LAYERS[name]()), _stack(0)
    before, after = change(layer(stack)), layer(change(stack))
    assert torch.allclose(before, after, atol=1e-12)
    assert not torch.allclose(layer(stack), after, atol=1e-2)


@pytest.mark.parametrize("change", [lambda one: _turned(one, 0.83), _mirrored])
def test_products_commute_with_the_symmetries_of_a_pair(change: Callable[[Tensor], Tensor]) -> None:
    product, factors = FrameProduct(M_MAX), torch.cat([_stack(1), _stack(2)], dim=2)
    plain = product(factors)
    for one, before, after in zip(plain, map(change, plain), product(change(factors)), strict=True):
        assert torch.allclose(before, after, atol=1e-12)
        assert not torch.allclose(one, after, atol=1e-2)


@pytest.mark.parametrize("m_max", [1, 4])
def test_products_at_angles_are_those_of_all_components(m_max: int) -> None:
    values, orders = product_at_angles(m_max)
    n, rows = 2 * m_max + 1, 2 * (m_max + 1)
    at_angles = values.view(2, n, rows)
    outer = torch.einsum("pka,qkb->pqkab", at_angles, at_angles).view(4 * n, rows * rows)
    whole = product_table(m_max).view(2 * rows, rows * rows)
    assert torch.allclose(orders @ outer, whole, rtol=0.0, atol=1e-13)
    scale = whole.square().sum(dim=1).clamp(min=1.0).rsqrt()
    assert torch.allclose(FrameProduct(m_max).orders, orders * scale.unsqueeze(1), rtol=0.0, atol=0.0)


def test_products_are_those_of_complex_numbers() -> None:
    table, first, second = product_table(M_MAX), _stack(3)[:, 0, 0], _stack(4)[:, 0, 0]
    found = torch.einsum("kcab,a,b->kc", table, first, second)
    z, w = (torch.complex(one[0::2], one[1::2]) for one in (first, second))
    for m in range(M_MAX + 1):
        sums = sum(z[a] * w[m - a] for a in range(m + 1))
        rests = sum(
            (z[a] * w[b].conj() if a >= b else z[a].conj() * w[b])
            for a in range(M_MAX + 1)
            for b in range(M_MAX + 1)
            if abs(a - b) == m
        )
        for kind, right in enumerate((sums, rests)):
            assert torch.allclose(torch.complex(found[kind, 2 * m], found[kind, 2 * m + 1]), torch.as_tensor(right))
