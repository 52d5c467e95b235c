"""Sums over the systems of a batch; every system is a separate fixed-point problem."""

from __future__ import annotations

from torch import Tensor

from mlff_calc.nn.scatter import scatter_sum


def system_dot(a: Tensor, b: Tensor, system_index: Tensor, n_systems: int) -> Tensor:
    """Inner products [k, n_systems] (float64) of `a` [k, n_rows, width] and `b` [n_rows, width] for each system."""
    products = (a.double() * b.double()).sum(dim=2)
    if n_systems == 1:
        return products.sum(dim=1, keepdim=True)
    return scatter_sum(products.transpose(0, 1), system_index, n_systems).transpose(0, 1)


def to_rows(values: Tensor, system_index: Tensor, n_systems: int) -> Tensor:
    """Spread `values` [..., n_systems] over the rows of their systems [..., n_rows], or [..., 1] for one system."""
    if n_systems == 1:
        return values
    return values.index_select(values.dim() - 1, system_index)
