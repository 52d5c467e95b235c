"""Selection of constant indices by slices has the values and gradients of indexing."""

from __future__ import annotations

import pytest
import torch

from mlff_calc.nn.take import Take


@pytest.mark.parametrize(
    "index",
    [[0], [0, 2, 6, 3, 7, 1, 5, 8, 4], [0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 1], [0, 1, 2, 3, 4, 3, 4, 5, 5]],
)
def test_take_is_indexing(index: list[int]) -> None:
    values = torch.randn(3, 9, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, len(index), 2, dtype=torch.float64)
    taken = Take(index)(values)
    torch.testing.assert_close(taken, values[:, index], rtol=0, atol=0)
    (found,) = torch.autograd.grad((taken * weights).sum(), values)
    (expected,) = torch.autograd.grad((values[:, index] * weights).sum(), values)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
