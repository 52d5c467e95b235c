"""Equivariant graph attention in edge frames.

For every edge (i, j) the features of both nodes pass through linear maps and are added, turned into the frame of the
edge and multiplied by radial weights. SO(2) linear, gate and SO(2) linear follow. The result is turned back and summed
over j with the attention weights

    a_ij = u(r_ij) exp(s_ij) / (1 + sum_k u(r_ik) exp(s_ik)),      s_ij = cap * tanh(logit_ij / cap).

The envelope u takes every weight to zero at the cutoff, in the denominator too. The 1 in the denominator (a null
neighbour) keeps the weight of a single neighbour from jumping from one to zero. The energy is therefore smooth as an
atom crosses the cutoff. The cap bounds the logits, so the exponential is safe without a maximum over neighbours.

Source: Liao et al., "EquiformerV2" (2023), Sec. 4.1. The envelope inside the softmax and the null neighbour are our
own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.nn.degree import DegreeLinear, Gate, degree_product
from mlff_calc.nn.exchange import exchange
from mlff_calc.nn.frames import reduced_orders
from mlff_calc.nn.scatter import scatter_sum
from mlff_calc.nn.so2 import SO2Linear
from mlff_calc.nn.take import Take


def modulation_index(l_max: int, m_max: int) -> tuple[list[int], int]:
    """Index of the radial weight of each reduced component (+m and -m share one), and the number of weights."""
    slots: dict = {}
    index = [slots.setdefault((degree, abs(m)), len(slots)) for degree, m in reduced_orders(l_max, m_max)]
    return index, len(slots)


class GraphAttention(nn.Module):
    """Messages along edges, weighted by attention, to the centre atoms.

    Args:
        l_max: highest degree of features.
        m_max: highest order kept in edge frames.
        channels: channels of node features.
        hidden: channels of messages, a multiple of `heads`.
        heads: number of attention heads.
        edge_channels: width of the edge scalars given to `forward`.
        logit_cap: bound of the attention logits. Raising it allows sharper attention and steeper energy surfaces.
    """

    def __init__(
        self,
        l_max: int,
        m_max: int,
        channels: int,
        hidden: int,
        heads: int,
        edge_channels: int,
        logit_cap: float = 8.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.hidden = hidden
        self.logit_cap = logit_cap
        index, self.n_slots = modulation_index(l_max, m_max)
        self.take_slots = Take(index)
        self.source = DegreeLinear(l_max, channels, hidden)
        self.target = DegreeLinear(l_max, channels, hidden, bias=False)
        self.modulate = nn.Linear(edge_channels, self.n_slots * hidden)
        self.gate = Gate([degree for degree, _ in reduced_orders(l_max, m_max)], hidden)
        self.first = SO2Linear(l_max, m_max, hidden, hidden, extra_scalars=self.gate.n_gates + 2 * heads)
        self.second = SO2Linear(l_max, m_max, hidden, hidden)
        self.project = DegreeLinear(l_max, hidden, channels)

    def radial_weights(self, edge_scalars: Tensor) -> Tensor:
        """Compute the factors of messages [n_edges, n_reduced, hidden] from `edge_scalars` [n_edges, edge_channels].

        They depend only on geometry, so a fixed-point iteration computes them once.
        """
        return self.take_slots(self.modulate(edge_scalars).view(edge_scalars.shape[0], self.n_slots, self.hidden))

    def radial_weights_of_order_zero(self, edge_scalars: Tensor) -> Tensor:
        """Compute the factors of messages of order 0 [n_edges, l_max+1, hidden]."""
        n_weights = (self.gate.l_max + 1) * self.hidden
        weights = torch.nn.functional.linear(
            edge_scalars, self.modulate.weight[:n_weights], self.modulate.bias[:n_weights]
        )
        return weights.view(-1, self.gate.l_max + 1, self.hidden)

    def forward(
        self,
        features: Tensor,
        edge_index: Tensor,
        radial_weights: Tensor,
        envelope: Tensor,
        wigner: Tensor,
        nodes: Tensor | None = None,
    ) -> Tensor:
        """Return messages [n_atoms, (l_max+1)^2, channels].

        Args:
            features: node features [n_atoms, (l_max+1)^2, channels].
            edge_index: centre and neighbour of each edge [2, n_edges].
            radial_weights: result of `radial_weights` [n_edges, n_reduced, hidden].
            envelope: envelope of each edge [n_edges].
            wigner: Wigner matrices of the edge frames [n_edges, n_reduced, (l_max+1)^2].
            nodes: any tensor with one row per node, where an engine has ghost atoms. Ghosts are exchanged once, here.
        """
        centre, n_atoms, n_edges = edge_index[0], features.shape[0], edge_index.shape[1]
        pair = self.pairs(features, edge_index, nodes)
        message, extra = self.first(torch.bmm(wigner, pair) * radial_weights)
        gates, logits = extra[:, : self.gate.n_gates], extra[:, self.gate.n_gates :]
        message, _ = self.second(self.gate(message, gates))
        alpha = self.attention(logits, centre, envelope, n_atoms)
        alpha = alpha.unsqueeze(-1).expand(-1, -1, self.hidden // self.heads).reshape(n_edges, 1, self.hidden)
        message = torch.bmm(wigner.transpose(1, 2), message * alpha)
        return self.project(scatter_sum(message, centre, n_atoms))

    def scalars(
        self,
        features: Tensor,
        edge_index: Tensor,
        radial_weights: Tensor,
        envelope: Tensor,
        wigner: Tensor,
        nodes: Tensor | None = None,
    ) -> Tensor:
        """Compute degree 0 of the result of `forward` [n_atoms, 1, channels] at a fraction of the cost.

        In the frame of an edge, scalars depend only on order 0. Nothing else is turned into the frame, and scalars need
        not be turned back. The arguments are those of `forward`, except that `radial_weights` are those of order 0.
        """
        centre, n_atoms = edge_index[0], features.shape[0]
        turned = torch.bmm(wigner[:, : self.gate.l_max + 1], self.pairs(features, edge_index, nodes))
        message, extra = self.first.order_zero(turned * radial_weights)
        gates, logits = extra[:, : self.gate.n_gates], extra[:, self.gate.n_gates :]
        message = self.second.scalars(self.gate.order_zero(message, gates))
        alpha = self.attention(logits, centre, envelope, n_atoms)
        alpha = alpha.unsqueeze(-1).expand(-1, -1, self.hidden // self.heads).reshape(-1, self.hidden)
        received = scatter_sum(message * alpha, centre, n_atoms)
        return self.project.scalars(received).unsqueeze(1)

    def pairs(self, features: Tensor, edge_index: Tensor, nodes: Tensor | None) -> Tensor:
        """Sum of the mapped features at both ends of each edge [n_edges, (l_max+1)^2, hidden]."""
        weight = torch.cat([self.source.weight, self.target.weight], dim=2)
        both = degree_product(features, weight, torch.cat([self.source.bias, self.target.bias]))
        sources = exchange(both[:, :, : self.hidden], nodes)
        return sources.index_select(0, edge_index[1]) + both[:, :, self.hidden :].index_select(0, edge_index[0])

    def attention(self, logits: Tensor, centre: Tensor, envelope: Tensor, n_atoms: int) -> Tensor:
        """Attention weights [n_edges, heads] from gated pairs `logits` [n_edges, 2 * heads] and `envelope` [n_edges]."""
        score = torch.nn.functional.silu(logits[:, : self.heads]) + logits[:, self.heads :]
        score = self.logit_cap * torch.tanh(score / self.logit_cap)
        weight = torch.exp(score) * envelope.unsqueeze(-1)
        total = 1.0 + scatter_sum(weight, centre, n_atoms)
        return weight / total.index_select(0, centre)
