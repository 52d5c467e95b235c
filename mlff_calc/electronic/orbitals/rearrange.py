"""Selection of entries, each at most once, whose derivative is a selection as well and not a sum into scattered places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Rearrange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, back: Tensor, dim: int, gaps: bool, partial: bool) -> Tensor:
        ctx.save_for_backward(index, back)
        ctx.how = dim, partial, gaps
        if gaps:
            shape = list(values.shape)
            shape[dim] = 1
            values = torch.cat([values, values.new_zeros(shape)], dim=dim)
        return values.index_select(dim, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        index, back = ctx.saved_tensors
        return _Rearrange.apply(grad, back, index, *ctx.how), None, None, None, None, None


def rearrange(
    values: Tensor, index: Tensor, back: Tensor, dim: int = 0, gaps: bool = False, partial: bool = False
) -> Tensor:
    """Select entries of `values` along `dim`, each at most once; may be differentiated any number of times.

    Args:
        values: Tensor with n entries along `dim`.
        index: Entry that each one of the result is [m]; n for zeros.
        back: Place of each entry of `values` in the result [n]; m where it is left out.
        dim: Dimension.
        gaps: Whether the result may have zeros, which takes a copy.
        partial: Whether entries may be left out, which takes a copy in the derivative.

    Returns:
        Tensor with m entries along `dim`.
    """
    return _Rearrange.apply(values, index, back, dim, gaps, partial)


def inverse(index: Tensor, n: int) -> Tensor:
    """The argument `back` of `rearrange` for its argument `index` [m], of n entries."""
    m = len(index)
    back = torch.full((n + 1,), m, dtype=index.dtype, device=index.device)
    back[index] = torch.arange(m, dtype=index.dtype, device=index.device)
    return back[:n]
