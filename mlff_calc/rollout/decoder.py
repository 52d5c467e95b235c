"""The decoder: what later states of the modes add to the base, for all times at once.

Scalars of atoms get a sinusoidal embedding of the time and the inner products of their vectors, pass to bonded atoms, and
give each vector a weight. Vectors are only mixed and weighed, so that the result turns with the molecule.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlff_calc.nn.dense import dense
from mlff_calc.rollout.mode_ode import signed_log, upper

WAVES = 6
"""Number of frequencies of the time embedding. Raising it tells nearer times apart."""


def time_embedding(share: Tensor) -> Tensor:
    """Sines and cosines of times [...] as shares of the horizon, with the share itself [..., 2 WAVES + 1]."""
    angles = math.pi * share.unsqueeze(-1) * torch.arange(1, WAVES + 1, dtype=share.dtype, device=share.device)
    return torch.cat([share.unsqueeze(-1), torch.sin(angles), torch.cos(angles)], dim=-1)


class DecoderLayer(nn.Module):
    """One exchange between bonded atoms.

    Args:
        vectors: Number of vectors of an atom.
        scalars: Number of scalars.
        width: Width of the network.
    """

    def __init__(self, vectors: int, scalars: int, width: int) -> None:
        super().__init__()
        self.hidden = dense(scalars + 2 * WAVES + 1 + vectors * (vectors + 1) // 2, width)
        self.exchange = dense(width, width)
        self.last = dense(width, scalars)
        self.gates = nn.Linear(width, vectors)
        self.mix = nn.Parameter(torch.randn(vectors, vectors) / math.sqrt(vectors))
        nn.init.zeros_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)

    def forward(self, vectors: Tensor, scalars: Tensor, time: Tensor, bonded: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [..., n_atoms, D, 3] and scalars [..., n_atoms, F] after the exchange.

        Args:
            vectors: Vectors of atoms.
            scalars: Scalars of atoms.
            time: Embedding [..., 1, 2 WAVES + 1].
            bonded: Share of each neighbour [n_atoms, n_atoms].
        """
        inner = signed_log(upper(vectors @ vectors.transpose(-1, -2)))
        known = torch.cat([scalars, time.expand(*scalars.shape[:-1], -1), inner], dim=-1)
        hidden = nn.functional.silu(self.hidden(known))
        hidden = nn.functional.silu(hidden + bonded @ self.exchange(hidden))
        scalars = scalars + self.last(hidden)
        sent = (bonded @ vectors.flatten(-2)).unflatten(-1, vectors.shape[-2:])
        mixed = torch.einsum("de,...ec->...dc", self.mix, sent)
        return vectors + self.gates(hidden).unsqueeze(-1) * mixed, scalars


class Decoder(nn.Module):
    """Layers, and three readouts that are zero at the start: weights for positions, for velocities, and log sigma.

    Args:
        vectors: Number of vectors of an atom.
        scalars: Number of scalars.
        width: Width of the network.
        layers: Number of layers.
    """

    def __init__(self, vectors: int, scalars: int, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([DecoderLayer(vectors, scalars, width) for _ in range(layers)])
        self.vectors = vectors
        self.last = nn.Linear(scalars, 2 * vectors + 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, vectors: Tensor, scalars: Tensor, share: Tensor, bonded: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Vectors after all layers, their weights for positions and velocities [..., D], and a term of log sigma [...]."""
        time = time_embedding(share).unsqueeze(-2)
        for layer in self.layers:
            vectors, scalars = layer(vectors, scalars, time, bonded)
        found = self.last(scalars)
        return vectors, found[..., : self.vectors], found[..., self.vectors : -1], found[..., -1]
