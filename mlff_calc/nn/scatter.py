"""Sums over edges and systems."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor


def scatter_sum(values: Tensor, index: Tensor, n_rows: int) -> Tensor:
    """Sum `values` [n, ...] into rows `index` [n] of a zero tensor [n_rows, ...].

    Rows are sorted and added by the CSR reduction of torch-scatter (extra `scatter`) if PyTorch's deterministic
    algorithms are on and it is installed; the order, and so the sum, is then fixed. Otherwise `index_add` is used. It
    was the fastest on CPUs, and PyTorch can fix its order too, though more slowly on GPUs.
    """
    if torch.are_deterministic_algorithms_enabled() and _has_torch_scatter():
        return _CSRSum.apply(values, index, n_rows)
    if n_rows == 1:  # compiled code is slow where all threads add to one number
        return values.sum(dim=0, keepdim=True)
    out = torch.zeros((n_rows, *values.shape[1:]), dtype=values.dtype, device=values.device)
    return out.index_add(0, index, values)


def from_mean(positions: Tensor, index: Tensor, n_systems: int) -> Tensor:
    """Positions relative to the mean of their system, x_i - mean(x) [n_atoms, 3], float64.

    Args:
        positions: positions [n_atoms, 3].
        index: system of each atom [n_atoms].
        n_systems: number of systems.
    """
    positions = positions.double()
    counts = scatter_sum(torch.ones_like(positions[:, :1]), index, n_systems).clamp(min=1.0)
    return positions - (scatter_sum(positions, index, n_systems) / counts).index_select(0, index)


@cache
def _has_torch_scatter() -> bool:
    return find_spec("torch_scatter") is not None


class _CSRSum(torch.autograd.Function):
    """Sorted sum by torch-scatter. Its own gradient cannot be differentiated twice, which losses on forces need."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, n_rows: int) -> Tensor:
        from torch_scatter import segment_csr

        ctx.save_for_backward(index)
        order = torch.argsort(index, stable=True)
        starts = torch.searchsorted(index.index_select(0, order), torch.arange(n_rows + 1, device=index.device))
        return segment_csr(values.index_select(0, order), starts, reduce="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None
