"""Codes of structures: one vector of scalars for each, from the features of its atoms.

    g = P(pool_i LN(h_i))      h: scalars of atoms, LN: layer normalization, P: a perceptron of two layers

The pool is a sum, as energies are read, or a mean, which does not grow with the size. No vector enters, so that g neither
turns with the structure nor depends on the order of its atoms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.graph.keys import Graph
from mlff_calc.nn.dense import dense
from mlff_calc.nn.scatter import scatter_sum

CODES = ("true", "constant")
POOLINGS = ("sum", "mean")


def pooled(scalars: Tensor, graph: Graph, pooling: str) -> Tensor:
    """Sum or mean of scalars [n_atoms, width] over the atoms of each system [n_systems, width]."""
    index, n_systems = graph["system_index"], graph["cell"].shape[0]
    total = scatter_sum(scalars, index, n_systems)
    if pooling == "sum":
        return total
    return total / torch.bincount(index, minlength=n_systems).clamp(min=1).unsqueeze(1)


def pooled_features(graph: Graph) -> Tensor:
    """Mean of the normalized scalars over the atoms of each system [n_systems, channels], defined for every backbone."""
    scalars = graph["node_features"][:, 0]
    return pooled(nn.functional.layer_norm(scalars, scalars.shape[1:]), graph, "mean")


class GraphCode(nn.Module):
    """The code g of each system.

    Args:
        channels: Number of scalars of an atom.
        width: Number of entries of the code; a small one is a bottleneck.
        pooling: `sum` or `mean`.
    """

    def __init__(self, channels: int, width: int, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Sequential(dense(channels, channels), nn.SiLU(), dense(channels, width))

    def forward(self, graph: Graph) -> Tensor:
        """Compute codes [n_systems, width] of a graph with `node_features`."""
        scalars = graph["node_features"][:, 0].to(self.norm.weight.dtype)
        found: Tensor = self.project(pooled(self.norm(scalars), graph, self.pooling))
        return found


class ConstantCode(nn.Module):
    """One learned vector in the place of the code of every system, by which codes are judged.

    Args:
        width: Number of entries.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(width))

    def forward(self, graph: Graph) -> Tensor:
        """Return the vector for every system [n_systems, width]."""
        return self.value.expand(graph["cell"].shape[0], -1)
