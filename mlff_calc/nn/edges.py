"""Radial basis, envelope and direction of edges, for networks without edge frames."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.nn.radial import BesselBasis, PolynomialEnvelope

SHORTEST = 1e-6
"""Smallest distance (Angstrom); nearer atoms, which neighbour lists refuse, count as this far apart."""


class EdgeRays(NamedTuple):
    """Geometry of edges, in the precision of the edge vectors.

    Attributes:
        basis: radial functions times the envelope [n_edges, n_basis].
        envelope: envelope [n_edges].
        directions: unit vectors [n_edges, 3].
    """

    basis: Tensor
    envelope: Tensor
    directions: Tensor


class EdgeBasis(nn.Module):
    """Radial basis, envelope and direction of edges; finite, with finite derivatives, at any distance.

    Args:
        cutoff: cutoff radius (Angstrom).
        n_basis: number of Bessel functions.
        envelope_exponent: exponent of the envelope, see `PolynomialEnvelope`.
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
    """Lengths [n] of `vectors` [n, 3] (Angstrom), clamped to `shortest`, where the derivative is zero."""
    return torch.sqrt((vectors * vectors).sum(dim=1).clamp(min=shortest * shortest))
