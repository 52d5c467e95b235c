"""Readout of vectors from the features of atoms."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlff_calc.errors import OptionError
from mlff_calc.nn.dense import dense
from mlff_calc.nn.edges import safe_lengths
from mlff_calc.nn.radial import PolynomialEnvelope
from mlff_calc.nn.scatter import scatter_sum

SMALL = 0.1
"""Scale of the vectors of a new network. Raising it makes first outputs larger, which training must unlearn."""


class VectorReadout(nn.Module):
    """Vectors [n_atoms, n_vectors, 3] that rotate and reflect with the structure and do not change when it is shifted.

    Where features contain vectors (l_max >= 1), these are mixed and gated by scalars,

        y_i = sum_c w_c g_c(h_i) (W v_i)_c.

    Otherwise the features are scalars h, and the edges give the directions,

        y_i = N^-1/2 sum_j u(|x_j - x_i|) phi(h_i, h_j) (x_j - x_i) / (1 + |x_j - x_i|),

    with the envelope u, which goes smoothly to zero at the cutoff, and the mean number of neighbours N.

    Args:
        l_max: highest degree of the features.
        channels: channels per component.
        n_vectors: number of vectors per atom.
        cutoff: cutoff of the graph, in the unit of the positions.
        avg_num_neighbors: mean number of neighbours N.
    """

    def __init__(
        self, l_max: int, channels: int, n_vectors: int, cutoff: float, avg_num_neighbors: float = 10.0
    ) -> None:
        super().__init__()
        self.l_max = l_max
        self.norm = float(avg_num_neighbors) ** -0.5
        self.envelope = PolynomialEnvelope(cutoff)
        width = channels if l_max > 0 else 0
        self.mix = nn.Parameter(torch.randn(width, width) / math.sqrt(max(width, 1)))
        self.last = nn.Parameter(SMALL * torch.randn(width, n_vectors) / math.sqrt(max(width, 1)))
        self.first = dense(channels, channels)
        self.gate = dense(channels, channels if l_max > 0 else n_vectors)
        if l_max == 0:
            self.gate.weight.data *= SMALL

    def forward(self, features: Tensor, edge_index: Tensor, edge_vec: Tensor) -> Tensor:
        """Read vectors off `features` [n_atoms, (l_max+1)^2, channels].

        Args:
            features: features of the atoms.
            edge_index: centre and neighbour of each edge [2, n_edges].
            edge_vec: vector along each edge [n_edges, 3].

        Raises:
            OptionError: the features contain no vectors although `l_max` is above 0 (see `Backbone.limit_outputs`).
        """
        if self.l_max > 0 and features.shape[1] < 4:
            raise OptionError(
                "features have no vectors: the backbone was told to leave them out; call limit_outputs(1)"
            )
        hidden = self.first(features[:, 0])
        if self.l_max > 0:
            gates = self.gate(nn.functional.silu(hidden))
            vectors = (features[:, 1:4] @ self.mix) * gates.unsqueeze(1)
            return (vectors @ self.last).transpose(1, 2)
        pair = hidden.index_select(0, edge_index[0]) + features[:, 0].index_select(0, edge_index[1])
        weights = self.gate(nn.functional.silu(pair))
        short = edge_vec.to(weights.dtype)
        lengths = safe_lengths(short)
        short = short * (self.norm * self.envelope(lengths) / (1.0 + lengths)).unsqueeze(-1)
        sent = weights.unsqueeze(2) * short.unsqueeze(1)
        return scatter_sum(sent, edge_index[0], features.shape[0])
