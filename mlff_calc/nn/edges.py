"""What networks without edge frames read of an edge: radial basis, envelope and direction."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.nn.radial import BesselBasis, PolynomialEnvelope

SHORTEST = 1e-6
"""Angstrom. Atoms nearer than this (neighbour lists refuse them) are a shortest distance apart, in no direction."""


class EdgeRays(NamedTuple):
    """Edges in the precision they were given in.

    `basis` [n_edges, n_basis], the radial functions times the envelope; `envelope` [n_edges]; `directions` [n_edges, 3].
    """

    basis: Tensor
    envelope: Tensor
    directions: Tensor


class EdgeBasis(nn.Module):
    """Radial basis, envelope and direction of edges; finite, with finite derivatives, at any distance.

    Args:
        cutoff: Angstrom. n_basis: Bessel functions. envelope_exponent: see `PolynomialEnvelope`.
    """

    def __init__(self, cutoff: float, n_basis: int, envelope_exponent: int) -> None:
        super().__init__()
        self.basis = BesselBasis(cutoff, n_basis)
        self.envelope = PolynomialEnvelope(cutoff, envelope_exponent)

    def forward(self, edge_vec: Tensor) -> EdgeRays:
        """Return the rays of `edge_vec` [n_edges, 3] (Angstrom)."""
        distances = safe_lengths(edge_vec)
        envelope = self.envelope(distances)
        basis = self.basis(distances) * envelope.unsqueeze(-1)
        return EdgeRays(basis, envelope, edge_vec / distances.unsqueeze(-1))


def safe_lengths(vectors: Tensor, shortest: float = SHORTEST) -> Tensor:
    """Lengths [n] of `vectors` [n, 3] (Angstrom), at least `shortest`, where their derivative is zero."""
    return torch.sqrt((vectors * vectors).sum(dim=1).clamp(min=shortest * shortest))
