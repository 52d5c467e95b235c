"""One layer of `hegnn`: scalar messages that read inner products, and gates that change the steerable features.

Symbols, equations and source are those of `hegnn.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.nn.dense import dense
from mlff_calc.nn.exchange import exchange
from mlff_calc.nn.harmonics import Degrees, lanes
from mlff_calc.nn.scatter import scatter_sum

SMALL = 1e-3
"""Scale of the moves of a new network. Raising it makes atoms move farther before training."""


class SteerableEdges(NamedTuple):
    """Geometry of the edges, in the precision of the network.

    Attributes:
        basis: radial basis [n_edges, n_basis], padded to make room for inner products where l_max is above 0.
        weight: envelope over the root of the mean number of neighbours [n_edges, 1].
        harmonics: spherical harmonics [n_edges, wide], repeated for each copy.
        rays: vectors from the centre to the neighbour [n_edges, 3].
    """

    basis: Tensor
    weight: Tensor
    harmonics: Tensor
    rays: Tensor


class Changes(NamedTuple):
    """What a layer adds.

    Attributes:
        scalars: to the scalars of atoms [n_atoms, channels].
        steerable: to the steerable features [n_atoms, wide]; None where they stay unchanged.
        moves: to the positions [n_atoms, 3]; None without `moves`.
    """

    scalars: Tensor
    steerable: Tensor | None
    moves: Tensor | None


class HegnnLayer(nn.Module):
    """One layer: scalar messages that read inner products, and gates that change the steerable features.

    Args:
        l_max: highest degree.
        channels: number of scalars and of messages.
        copies: number of channels of steerable features.
        n_basis: width of the radial basis.
        moves: whether atoms move as well.

    Attributes:
        ends: whether steerable features are left unchanged, because there are none or nothing after this layer reads
            them.
    """

    read_own: Tensor
    read_ray: Tensor
    gate_other: Tensor
    gate_ray: Tensor

    def __init__(self, l_max: int, channels: int, copies: int, n_basis: int, moves: bool = False) -> None:
        super().__init__()
        self.l_max = l_max
        self.channels = channels
        self.moves = moves
        self.ends = l_max == 0
        self.degrees = Degrees(l_max, copies)
        n_degrees = self.degrees.n_degrees
        self.n_gates = n_gates = 2 * n_degrees
        n_reads, self.n_lanes = lanes(n_basis + n_gates), lanes(n_gates + 1 if moves else n_gates) if l_max > 0 else 1
        places = self.degrees.places
        self.register_buffer("read_own", places(n_basis, n_reads), persistent=False)
        self.register_buffer("read_ray", places(n_basis + n_degrees, n_reads), persistent=False)
        self.register_buffer("gate_other", places(0, self.n_lanes).t().contiguous(), persistent=False)
        self.register_buffer("gate_ray", places(n_degrees, self.n_lanes).t().contiguous(), persistent=False)
        self.pair = dense(channels + n_degrees, 2 * channels)
        self.edge = nn.Parameter(torch.randn(n_basis + n_gates, channels))
        self.edge.data *= (n_basis + n_gates) ** -0.5
        self.message = dense(channels, channels)
        n_out = n_gates + 1 if moves else n_gates
        self.gate_weight = nn.Parameter(torch.randn(channels, n_out) * channels**-0.5)
        self.gate_bias = nn.Parameter(torch.zeros(n_out))
        self.update = nn.Sequential(dense(2 * channels, channels), nn.SiLU(), dense(channels, channels))
        if moves:
            self.push_hidden = dense(channels, channels)
            self.gate_weight.data[:, n_gates] *= SMALL
            drag = dense(channels, 1)
            drag.weight.data *= SMALL
            self.drag = nn.Sequential(dense(channels, channels), nn.SiLU(), drag)

    def forward(
        self,
        scalars: Tensor,
        steerable: Tensor,
        edge_index: Tensor,
        edges: SteerableEdges,
        nodes: Tensor | None = None,
        drift: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the layer; arguments are those of `changes`.

        Returns:
            New scalars [n_atoms, channels], new steerable features [n_atoms, wide], and moves [n_atoms, 3].
        """
        found = self.changes(scalars, steerable, edge_index, edges, nodes, drift)
        moved = edges.rays.new_zeros((scalars.shape[0], 3)) if found.moves is None else found.moves
        turned = steerable if found.steerable is None else steerable + found.steerable
        return scalars + found.scalars, turned, moved

    def changes(
        self,
        scalars: Tensor,
        steerable: Tensor,
        edge_index: Tensor,
        edges: SteerableEdges,
        nodes: Tensor | None = None,
        drift: Tensor | None = None,
        kept: Tensor | None = None,
    ) -> Changes:
        """Compute what the layer adds to its input.

        Args:
            scalars: scalars of atoms [n_atoms, channels].
            steerable: steerable features [n_atoms, wide].
            edge_index: centre and neighbour of each edge [2, n_edges].
            edges: geometry of the edges.
            nodes: species of own atoms and ghosts, where there are ghosts.
            drift: free drift of atoms [n_atoms, 3], for `moves`.
            kept: factors of the channels of each atom's messages [n_atoms, channels], for dropout.
        """
        n_atoms, centres, neighbors = scalars.shape[0], edge_index[0], edge_index[1]
        if self.l_max == 0:
            centre, source = torch.split(self.pair(scalars), self.channels, dim=1)
            source = exchange(source, nodes).index_select(0, neighbors)
            other, read = edges.harmonics, edges.basis
        else:
            centre, source, bounded = self.rows(scalars, steerable)
            shared = bounded
            if nodes is not None:
                both = exchange(torch.cat([source, bounded], dim=1), nodes)
                source, shared = torch.split(both, [self.channels, self.degrees.wide], dim=1)
            source, other = source.index_select(0, neighbors), shared.index_select(0, neighbors)
            read = self.reads(bounded.index_select(0, centres), other, edges)
        edge = nn.functional.pad(self.edge, [0, 0, 0, read.shape[1] - self.edge.shape[0]])
        hidden = nn.functional.silu(torch.addmm(centre.index_select(0, centres) + source, read, edge))
        message = nn.functional.silu(self.message(hidden))
        turned = moved = None
        if self.moves or not self.ends:
            gates = self.gates(message, hidden) * edges.weight
            if self.moves:
                moved = scatter_sum(gates[:, self.n_gates : self.n_gates + 1] * -edges.rays, centres, n_atoms)
                if drift is not None:
                    moved = moved + self.drag(scalars) * drift
            if not self.ends:
                turns = (gates @ self.gate_other.to(gates.dtype)) * other
                turns = turns + (gates @ self.gate_ray.to(gates.dtype)) * edges.harmonics
                turned = scatter_sum(turns, centres, n_atoms)
        received = scatter_sum(message * edges.weight, centres, n_atoms)
        if kept is not None:
            received = received * kept
        return Changes(self.update(torch.cat([scalars, received], dim=1)), turned, moved)

    def rows(self, scalars: Tensor, steerable: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features that edges look up: of centres and neighbours (both [n_atoms, channels]), and bounded [n_atoms, wide]."""
        shrink = torch.rsqrt(1.0 + self.degrees.sums(steerable * steerable))
        centre, source = torch.split(self.pair(torch.cat([scalars, shrink], dim=1)), self.channels, dim=1)
        return centre, source, steerable * self.degrees.spread(shrink)

    def reads(self, own: Tensor, other: Tensor, edges: SteerableEdges) -> Tensor:
        """Radial basis, <w_i, w_j> and <w_j, Y>, side by side and padded with zeros [n_edges, n_reads]."""
        half = torch.addmm(edges.basis, own * other, self.read_own.to(own.dtype))
        return torch.addmm(half, other * edges.harmonics, self.read_ray.to(own.dtype))

    def gates(self, message: Tensor, hidden: Tensor) -> Tensor:
        """Gates g and k by degree and copy, and f with `moves`, padded with zeros [n_edges, n_lanes]."""
        if self.moves:
            hidden = nn.functional.silu(self.push_hidden(message))
        more = [0, self.n_lanes - self.gate_bias.shape[0]]
        return torch.addmm(nn.functional.pad(self.gate_bias, more), hidden, nn.functional.pad(self.gate_weight, more))
