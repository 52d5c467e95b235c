"""Radial functions: a smooth cutoff envelope, a Bessel basis and the small network that turns them into weights.

| symbol | name in code | shape | unit |
|---|---|---|---|
| r | `distances` | [n_edges] | Angstrom |
| r_c | `cutoff` | scalar | Angstrom |
| u(r / r_c) | envelope | [n_edges] | 1 |
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn


class PolynomialEnvelope(nn.Module):
    """Envelope that is 1 at zero distance, p - 1 derivatives vanishing, and falls to 0 at r_c like (1 - r/r_c)^3.

    Source: Gasteiger et al., "Directional message passing for molecular graphs" (2020), Eq. 8.
    """

    def __init__(self, cutoff: float, exponent: int = 5) -> None:
        super().__init__()
        self.cutoff = float(cutoff)
        self.p = float(exponent)

    def forward(self, distances: Tensor) -> Tensor:
        """Return the envelope [n_edges] at `distances` [n_edges] (Angstrom); zero beyond the cutoff."""
        p = self.p
        x = (distances / self.cutoff).clamp(max=1.0)
        power = x**p
        return 1.0 - power * ((p + 1.0) * (p + 2.0) / 2.0 - x * (p * (p + 2.0) - x * (p * (p + 1.0) / 2.0)))


class BesselBasis(nn.Module):
    """Sine Bessel functions sin(n pi r / r_c) / r, scaled to unit variance, without an envelope.

    The frequencies are fixed, so two potentials with the same cutoff share a basis.

    Source: Gasteiger et al. (2020), Eq. 7.
    """

    def __init__(self, cutoff: float, n_basis: int) -> None:
        super().__init__()
        self.cutoff = float(cutoff)
        self.n_basis = n_basis
        frequencies = math.pi * torch.arange(1, n_basis + 1, dtype=torch.float64) / cutoff
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Return the basis [n_edges, n_basis] at `distances` [n_edges] (Angstrom)."""
        r = distances.unsqueeze(-1)
        return torch.sin(r * self.frequencies.to(distances.dtype)) * (math.sqrt(2.0 * self.cutoff) / r)


class RadialMLP(nn.Module):
    """Perceptron with SiLU between its layers that maps edge scalars to weights."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers.append(nn.Linear(fan_in, fan_out))
            layers.append(nn.SiLU())
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, scalars: Tensor) -> Tensor:
        """Map edge scalars [n_edges, widths[0]] to weights [n_edges, widths[-1]]."""
        return self.layers(scalars)
