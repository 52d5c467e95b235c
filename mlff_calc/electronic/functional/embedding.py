"""Projection of densities on functions around nuclei, and back to points. No nuclear charge enters.

    h_i^{klm} = sum_g w_g n(r_g) q_i(r_g) B_klm(r_g - R_i),
    q_i = u(d_i / c) exp(-d_i^2 / 2 b^2) / sum_j u(d_j / c) exp(-d_j^2 / 2 b^2)

with a soft partition q of space among nuclei, whose width b is learned, and

    g_f(r) = sum_i sum_klm W_i^{kf} H_i^{lm f} B_klm(r - R_i)

for features H of atoms and radial weights W from their invariants.

Source: Gao, Eberhard and Guennemann, "Learning equivariant non-local electron density functionals" (2024).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.electronic.functional.near import Near
from mlff_calc.nn.degree import DegreeLinear
from mlff_calc.nn.radial import RadialMLP
from mlff_calc.nn.scatter import scatter_sum

_TINY = 1e-300
"""Smallest sum of the parts of a point; below it no centre has a share."""


class Partition(nn.Module):
    """Soft partition of points among centres. Its width begins at 1 Bohr."""

    def __init__(self) -> None:
        super().__init__()
        self.log_width = nn.Parameter(torch.zeros(()))

    def forward(self, near: Near, n_points: int) -> Tensor:
        """Return the share of centres in points [n_centres, n_most]."""
        parts = near.fade * torch.exp(near.squares * (-0.5 * torch.exp(-2.0 * self.log_width)))
        flat = near.points.flatten()
        whole = scatter_sum(parts.flatten(), flat, n_points).clamp(min=_TINY)
        return parts / whole.index_select(0, flat).view_as(parts)


class Projection(nn.Module):
    """Features of atoms from a density.

    Args:
        l_max: Highest degree.
        filters: Number of radial functions.
        channels: Number of features per component.
    """

    def __init__(self, l_max: int, filters: int, channels: int) -> None:
        super().__init__()
        self.n_components = (l_max + 1) ** 2
        self.mix = DegreeLinear(l_max, filters, channels)

    def forward(self, electrons: Tensor, near: Near, share: Tensor) -> Tensor:
        """Map electrons of points, w n [n_points], to features [n_centres, (l_max+1)^2, channels]."""
        seen = electrons.index_select(0, near.points.flatten()).view_as(share) * share
        found = torch.bmm(seen.unsqueeze(1), near.basis).view(share.shape[0], self.n_components, -1)
        return self.mix(found)


class Decoder(nn.Module):
    """Features of points from features of atoms; arguments as for `Projection`."""

    def __init__(self, l_max: int, filters: int, channels: int) -> None:
        super().__init__()
        self.filters = filters
        self.weights = RadialMLP([(l_max + 1) * channels, channels, filters * channels])

    def forward(self, features: Tensor, invariants: Tensor, near: Near, n_points: int) -> Tensor:
        """Map features [n_centres, (l_max+1)^2, channels] and their invariants to points [n_points, channels]."""
        n, components, channels = features.shape
        weights = self.weights(invariants).view(n, 1, self.filters, channels) * self.filters**-0.5
        mixed = (features.unsqueeze(2) * weights).view(n, components * self.filters, channels)
        found = torch.bmm(near.basis, mixed)
        return scatter_sum(found.flatten(0, 1), near.points.flatten(), n_points)
