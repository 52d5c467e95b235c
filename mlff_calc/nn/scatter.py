"""Sums over edges and systems, and the hook that stands between message-passing layers."""

import torch
from torch import Tensor


def scatter_sum(values: Tensor, index: Tensor, n_rows: int) -> Tensor:
    """Sum `values` [n, ...] into rows `index` [n] of a zero tensor [n_rows, ...]."""
    shape = (n_rows,) + values.shape[1:]  # noqa: RUF005 - TorchScript knows this form only
    out = torch.zeros(shape, dtype=values.dtype, device=values.device)
    return out.index_add(0, index, values)


def exchange(features: Tensor) -> Tensor:
    """Hand node features to the engine between layers; the identity where one process holds all atoms.

    A domain-decomposed engine fills the rows of ghost atoms here (and sums their gradients back).
    """
    return features
