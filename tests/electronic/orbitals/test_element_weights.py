"""Products by groups equal plain ones, and selections have derivatives of first and second order."""

from __future__ import annotations

import pytest
import torch

from mlff_calc.electronic.orbitals.element_weights import grouped_product
from mlff_calc.electronic.orbitals.rearrange import inverse, rearrange

CASES = [([2, 0, 1], False, False), ([2, 3, 0], True, True), ([1], False, True)]


def test_products_equal_plain_ones(generator: torch.Generator) -> None:
    rows = torch.randn(6, 3, generator=generator)
    weights = torch.randn(3, 3, 4, generator=generator)
    wanted = torch.cat([rows[:1] @ weights[0], rows[1:1] @ weights[1], rows[1:] @ weights[2]])
    assert torch.allclose(grouped_product(rows, weights, [1, 0, 5]), wanted)
    bias = torch.randn(3, 4, generator=generator)
    assert torch.allclose(grouped_product(rows, weights, [1, 0, 5], bias), wanted + bias[[0, 2, 2, 2, 2, 2]], atol=1e-6)
    assert grouped_product(rows[:0], weights[:0], []).shape == (0, 4)


@pytest.mark.parametrize(("index", "gaps", "partial"), CASES)
def test_selections_and_their_derivatives(
    index: list[int], gaps: bool, partial: bool, generator: torch.Generator
) -> None:
    values = torch.randn(3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor(index)

    def select(given: torch.Tensor) -> torch.Tensor:
        return rearrange(given, chosen, inverse(chosen, 3), gaps=gaps, partial=partial)

    wanted = torch.cat([values, torch.zeros(1, 2, dtype=torch.float64)])[chosen]
    assert torch.equal(select(values), wanted)
    assert torch.autograd.gradcheck(select, values)
    assert torch.autograd.gradgradcheck(select, values)
