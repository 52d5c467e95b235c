"""One layer of the network: messages between atoms and features of pairs, both made in the frames of pairs.

The features of both atoms are turned into the frame of their pair once. There they are mixed with the features of the
pair, which stay in this frame through all layers, gated, and multiplied with each other by SO(2) tensor products. From
the result come the change of the pair and, turned back and summed over neighbours with a smooth envelope, the message
to the first atom.

The tensor product of an atom with itself is part of this: in the frame of each neighbour the features of the atom are
multiplied with themselves, and the products are averaged over all frames with weights that vanish at the cutoff. No
frame is chosen, so nothing jumps where another neighbour becomes the nearest one, and atoms whose neighbours are
equally near (CH4, benzene) are like all others.

Source: Yu et al., "QHNetV2" (2025), for pairs kept in their frame and products there; the average over frames is our
own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.electronic.hamiltonian.atoms import AtomFeedForward, AtomNorm
from mlff_calc.electronic.hamiltonian.frames import FromBothEnds, ToDegrees, conjugation, end_signs
from mlff_calc.electronic.hamiltonian.layers import FrameGate, FrameNorm, FrameProduct, StackLinear
from mlff_calc.nn.scatter import scatter_sum


class PairGeometry(NamedTuple):
    """What all layers know of the pairs.

    Attributes:
        atoms: First and second atom of each pair [2, n_pairs]; messages go to the first. The second half of the pairs is the
            first one in the other direction.
        turns: Maps to the frames of the first half of the pairs, see `PairFrames`.
        scalars: Functions of distance and elements [n_pairs, n_scalars].
        weights: Weights of messages [n_pairs], which fade out at the cutoff of messages.
    """

    atoms: Tensor
    turns: Tensor
    scalars: Tensor
    weights: Tensor


class PairBlock(nn.Module):
    """One layer.

    Args:
        l_max: Highest degree, also the highest order in frames.
        channels: Channels of the features of atoms, for each parity.
        hidden: Width of the features of pairs.
        products: Width of tensor products; 0 for none.
        n_scalars: Number of scalars of a pair.
        to_atoms: Where products go: to atoms and pairs, or to pairs only.
    """

    signs: Tensor
    mirror: Tensor

    def __init__(
        self,
        l_max: int,
        channels: int,
        hidden: int,
        products: int,
        n_scalars: int,
        *,
        to_atoms: bool = True,
    ) -> None:
        super().__init__()
        self.l_max, self.hidden, self.products, self.to_atoms = l_max, hidden, products, to_atoms
        width = hidden + 2 * products
        self.norm = AtomNorm(l_max, channels)
        self.read_atoms = FromBothEnds(l_max, channels, width)
        self.pair_norm = FrameNorm(l_max, hidden)
        self.read_pairs = StackLinear(l_max, hidden, width, bias=False)
        self.modulate = nn.Linear(n_scalars, (l_max + 1) * width)
        self.inject = nn.Linear(n_scalars, width)
        self.gate = FrameGate(l_max, hidden)
        self.product = FrameProduct(l_max) if products else None
        self.to_pairs = StackLinear(l_max, hidden + 2 * products, hidden)
        self.message = ToDegrees(l_max, hidden + (2 * products if to_atoms else 0), channels)
        self.atom_norm = AtomNorm(l_max, channels)
        self.feed_forward = AtomFeedForward(l_max, channels, channels)
        self.register_buffer("signs", end_signs(l_max), persistent=False)
        self.register_buffer("mirror", conjugation(l_max), persistent=False)
        with torch.no_grad():
            self.modulate.bias.fill_(1.0)

    def forward(self, features: Tensor, pairs: Tensor, geometry: PairGeometry) -> tuple[Tensor, Tensor]:
        """Update the features of atoms and pairs.

        Args:
            features: Features of atoms [n_atoms, 2, (l_max+1)^2, channels].
            pairs: Features of pairs [2 (l_max+1), n_pairs, hidden].
            geometry: Geometry of the pairs.
        """
        made = self._products(self._inside(features, pairs, geometry))
        pairs = pairs + self.to_pairs(made)
        features = features + self._message(made, geometry, features.shape[0])
        return features + self.feed_forward(self.atom_norm(features)), pairs

    def _inside(self, features: Tensor, pairs: Tensor, geometry: PairGeometry) -> Tensor:
        """Mix both atoms and the pair in its frame [2 (l_max+1), n_pairs, hidden + 2 products]."""
        index, turns, scalars, _ = geometry
        normed, half = self.norm(features), len(turns)
        first = normed.index_select(0, index[0, :half])
        second = (normed * self.signs.to(normed.dtype)).index_select(0, index[1, :half])
        ends = torch.cat([first + second, first - second], dim=3)
        rows = torch.bmm(turns.flatten(0, 1), ends.flatten(0, 1)).view_as(ends)
        seen = self.read_pairs(self.pair_norm(pairs), onto=self.read_atoms(rows, self.inject(scalars)))
        factors = self.modulate(scalars).view(len(scalars), 1, self.l_max + 1, seen.shape[2]).permute(2, 1, 0, 3)
        return (seen.unflatten(0, (self.l_max + 1, 2)) * factors).flatten(0, 1)

    def _products(self, seen: Tensor) -> Tensor:
        """Gated features and tensor products, side by side."""
        if self.product is None:
            return self.gate(seen)
        gated, factors = seen.split([self.hidden, 2 * self.products], dim=2)
        return torch.cat([self.gate(gated), *self.product(factors)], dim=2)

    def _message(self, made: Tensor, geometry: PairGeometry, n_atoms: int) -> Tensor:
        """Messages to the first atoms [n_atoms, 2, (l_max+1)^2, channels]."""
        kept = made if self.to_atoms else made[:, :, : self.hidden]
        half = len(geometry.turns)
        forth, back = geometry.weights.view(2, half, 1).unbind(0)
        rows = self.message(kept * torch.cat([forth.expand(len(kept), half, 1), self.mirror.to(kept.dtype) * back], dim=1))
        turns = geometry.turns.flatten(0, 1).transpose(1, 2)
        to_first, to_second = (
            scatter_sum(torch.bmm(turns, part.flatten(0, 1)).view_as(part), atoms, n_atoms)
            for part, atoms in zip(rows.split([half, half]), geometry.atoms[0].split([half, half]), strict=True)
        )
        return to_first + to_second * self.signs.to(rows.dtype)
