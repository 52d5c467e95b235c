"""The functional of Perdew, Burke and Ernzerhof for closed shells, equal to libxc's `pbe`.

Source: Perdew, Burke and Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlff_calc.electronic.functional import uniform

BETA = 0.06672455060314922
GAMMA = (1.0 - math.log(2.0)) / math.pi**2
MU = BETA * math.pi**2 / 3.0
KAPPA = 0.804
S2_OF_GRADIENT = 0.25 * (3.0 * math.pi**2) ** (-2.0 / 3.0)
"""Square of the reduced gradient s times n^(8/3) over that of the gradient."""
T2_OF_S2 = (3.0 * math.pi**2 / 16.0) ** (2.0 / 3.0)
"""Square of the gradient t of correlation times the Wigner-Seitz radius over that of s."""


def energy(root: Tensor, s2: Tensor) -> Tensor:
    """Energy per electron, Hartree.

    Args:
        root: Cube root of the density [n_points].
        s2: Square of the reduced gradient s [n_points].
    """
    enhancement = 1.0 + KAPPA - KAPPA / (1.0 + (MU / KAPPA) * s2)
    radius = uniform.RADIUS / root
    gas = uniform.correlation(radius.sqrt())
    t2 = (T2_OF_S2 * s2) / radius
    a = (BETA / GAMMA) / torch.expm1(-gas / GAMMA) * t2  # A t^2
    h = GAMMA * torch.log1p((BETA / GAMMA) * t2 * (1.0 + a) / (1.0 + a + a * a))
    return uniform.exchange(root) * enhancement + gas + h
