"""The weight of the energy density at each point, from local quantities and from the decoded neighbourhood.

    gamma(r) = 1 + (a + b MLP(x(r), g(r))) / 100,        a = b = 0 at the start,

with x = (log(n^(1/3) + 1e-5), (1 - exp(-s^2)) log(1 + s), log(1 + alpha) - log 2), the last with tau only.

Source: Gao, Eberhard and Guennemann (2024); local quantities by Dick and Fernandez-Serra, "Highly accurate and constrained
density functional obtained with differentiable programming" (2021).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlff_calc.electronic.functional.bases import Local
from mlff_calc.electronic.functional.r2scan import TAU_UNIFORM
from mlff_calc.nn.radial import RadialMLP

RESPONSE = 0.01
"""Change of weights of the energy density, and of energies of atoms (Hartree), by an output of 1. E_xc is thousands of times
larger than what is learned, so that a step of an optimizer must not move it by its size. Raising it makes steps larger."""


class Reweighting(nn.Module):
    """Weights of the energy density.

    Args:
        n_local: Number of local quantities, 2 or 3.
        channels: Number of decoded features of points; 0 for none.
        width: Width of the perceptron.
    """

    def __init__(self, n_local: int, channels: int, width: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.scale = nn.Parameter(torch.zeros(()))
        self.perceptron = RadialMLP([n_local + channels, width, width, 1])

    def forward(self, known: Tensor, decoded: Tensor | None) -> Tensor:
        """Return the weights [n_points].

        Args:
            known: Local quantities of points [n_points, n_local].
            decoded: Decoded features of points [n_points, channels].
        """
        whole = known if decoded is None else torch.cat([known, decoded], dim=1)
        return 1.0 + RESPONSE * (self.shift + self.scale * self.perceptron(whole).squeeze(1))


def local_quantities(points: Local) -> Tensor:
    """Bounded functions of density, gradient and tau [n_points, 2 or 3], smooth everywhere."""
    s2 = points.s2
    s = torch.sqrt(s2 + 1e-12)
    found = [torch.log(points.root + 1e-5), -torch.expm1(-s2) * torch.log1p(s)]
    if points.tau is not None:
        alpha = ((points.tau - TAU_UNIFORM * (5.0 / 3.0) * s2) / TAU_UNIFORM).clamp(min=0.0)
        found.append(torch.log1p(alpha) - math.log(2.0))
    return torch.stack(found, dim=1)
