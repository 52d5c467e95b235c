"""Exchange and correlation of the uniform electron gas, closed shells, per electron in Hartree.

Source: Dirac (1930) for exchange; Perdew and Wang, Phys. Rev. B 45, 13244 (1992) for correlation, with the digits of
libxc's `pw_mod`, which PBE and r2SCAN are built on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EXCHANGE = -0.75 * (3.0 / math.pi) ** (1.0 / 3.0)
"""Energy of exchange per electron over the cube root of the density."""
RADIUS = (0.75 / math.pi) ** (1.0 / 3.0)
"""Radius of the sphere of one electron times the cube root of the density."""
_A, _ALPHA = 0.0310907, 0.21370
_BETA = (7.5957, 3.5876, 1.6382, 0.49294)


def exchange(root: Tensor) -> Tensor:
    """Exchange energy per electron, from the cube root of the density [n_points]."""
    return EXCHANGE * root


def correlation(root_radius: Tensor) -> Tensor:
    """Correlation energy per electron, from the square root of the Wigner-Seitz radius [n_points]."""
    x = root_radius
    b1, b2, b3, b4 = _BETA
    series = x * (b1 + x * (b2 + x * (b3 + x * b4)))
    return -2.0 * _A * (1.0 + _ALPHA * x * x) * torch.log1p(0.5 / (_A * series))


def correlation_slope(root_radius: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation energy per electron, and its derivative by the Wigner-Seitz radius; argument as for `correlation`."""
    x = root_radius
    b1, b2, b3, b4 = _BETA
    series = x * (b1 + x * (b2 + x * (b3 + x * b4)))
    slope = (b1 + x * (2.0 * b2 + x * (3.0 * b3 + x * (4.0 * b4)))) / (2.0 * x)
    whole = 2.0 * _A * series
    logarithm, prefactor = torch.log1p(1.0 / whole), -2.0 * _A * (1.0 + _ALPHA * x * x)
    return prefactor * logarithm, -2.0 * _A * _ALPHA * logarithm - prefactor * 2.0 * _A * slope / (whole * (whole + 1.0))
