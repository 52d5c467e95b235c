"""The functional r2SCAN for closed shells, equal to libxc's `r2scan`.

Source: Furness, Kaplan, Ning, Perdew and Sun, J. Phys. Chem. Lett. 11, 8208 (2020).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlff_calc.electronic.functional import uniform
from mlff_calc.electronic.functional.pbe import BETA, GAMMA, T2_OF_S2

ETA, DP2 = 0.001, 0.361
K1, HX0, A1, MU_AK = 0.065, 1.174, 4.9479, 10.0 / 81.0
B1C, B2C, B3C, CHI = 0.0285764, 0.0889, 0.125541, 0.12802585262625815
TAU_UNIFORM = 0.3 * (3.0 * math.pi**2) ** (2.0 / 3.0)
"""Kinetic energy density of the uniform gas over n^(5/3)."""
_CX = (1.0, -0.667, -0.4445555, -0.663086601049, 1.451297044490, -0.887998041597, 0.234528941479, -0.023185843322)
_CC = (1.0, -0.64, -0.4352, -1.535685604549, 3.061560252175, -1.915710236206, 0.516884468372, -0.051848879792)
_SUM_X = sum(i * c for i, c in enumerate(_CX))
_SUM_C = sum(i * c for i, c in enumerate(_CC))


def energy(root: Tensor, s2: Tensor, tau: Tensor) -> Tensor:
    """Energy per electron, Hartree.

    Args:
        root: Cube root of the density [n_points].
        s2: Square of the reduced gradient s [n_points].
        tau: Kinetic energy density over n^(5/3) [n_points].
    """
    tau_w = TAU_UNIFORM * (5.0 / 3.0) * s2
    alpha = (tau - tau_w).clamp(min=0.0) / (TAU_UNIFORM + ETA * tau_w)
    fade = torch.exp(s2 * s2 * -(DP2**-4.0))
    return uniform.exchange(root) * _exchange(s2, alpha, fade) + _correlation(root, s2, alpha, fade)


def _exchange(s2: Tensor, alpha: Tensor, fade: Tensor) -> Tensor:
    c2 = -_SUM_X * (1.0 - HX0)
    x = ((20.0 / 27.0 + ETA * 5.0 / 3.0) * c2 * fade + MU_AK) * s2
    h1 = 1.0 + K1 - K1 / (1.0 + x / K1)
    f = _switch(alpha, _CX, 0.667, 0.8, 1.24)
    fourth = s2.clamp(min=1e-16) ** -0.25
    g = -torch.expm1(-A1 * fourth)
    return (h1 + f * (HX0 - h1)) * g


def _correlation(root: Tensor, s2: Tensor, alpha: Tensor, fade: Tensor) -> Tensor:
    radius = uniform.RADIUS / root
    x = radius.sqrt()
    gas, slope = uniform.correlation_slope(x)
    below = 1.0 / (1.0 + B2C * x + B3C * radius)
    gas0 = -B1C * below
    slope0 = B1C * (0.5 * B2C / x + B3C) * below * below
    w0, w1 = torch.expm1(below), torch.expm1(-gas / GAMMA)
    e0 = gas0 + B1C * torch.log1p(w0 * (1.0 - (1.0 + 4.0 * CHI * s2) ** -0.25))
    beta = BETA * (1.0 + 0.1 * radius) / (1.0 + 0.1778 * radius)
    y = beta * (T2_OF_S2 / GAMMA) * s2 / (radius * w1)
    step = (20.0 * radius * (slope0 - slope) - 45.0 * ETA * (gas0 - gas)) * s2 * fade
    step = step * (_SUM_C / (27.0 * GAMMA)) / w1
    e1 = gas + GAMMA * torch.log1p(w1 * (1.0 - (1.0 + 4.0 * (y - step)) ** -0.25))
    return e1 + _switch(alpha, _CC, 0.64, 1.5, 0.7) * (e0 - e1)


def _switch(alpha: Tensor, series: tuple[float, ...], _c1: float, c2: float, d: float) -> Tensor:
    """Interpolation between a single orbital (alpha = 0) and the gas (alpha = 1); alpha is not negative."""
    low = alpha.clamp(max=2.5)
    polynomial = torch.full_like(low, series[-1])
    for coefficient in reversed(series[:-1]):
        polynomial = polynomial * low + coefficient
    far = -d * torch.exp(c2 / (1.0 - alpha.clamp(min=2.5)))
    return torch.where(alpha > 2.5, far, polynomial)
