"""Densities of molecules made of Gaussians, without PySCF, and functionals with weights that do something."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mlff_calc.electronic.functional import DensityGrid, FunctionalNetwork, build_functional


def functional(seed: int = 0, strength: float = 0.02, **options: Any) -> FunctionalNetwork:
    """A functional whose network counts, unlike that of a new one."""
    given = {"base": "pbe", "basis": "sto-3g", "grid_level": 0, "elements": [1, 6, 8], "channels": 8, "filters": 6}
    network = build_functional(given | options, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        if network.weights is not None:
            network.weights.scale.fill_(strength)
        if network.readout is not None:
            weight = network.readout[2].weight
            weight.copy_(0.15 * strength * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return network


def gaussians(centres: Tensor, n_points: int = 60, seed: int = 0) -> DensityGrid:
    """Electrons in two Gaussians on each centre (Bohr), on random points around the centres."""
    generator = torch.Generator().manual_seed(seed)
    around = torch.randn(n_points, len(centres), 3, generator=generator, dtype=torch.float64) * 1.3
    positions = (around + centres).reshape(-1, 3)
    return on_points(positions, torch.rand(len(positions), generator=generator, dtype=torch.float64), centres)


def on_points(positions: Tensor, weights: Tensor, centres: Tensor) -> DensityGrid:
    """The same density on given points, with tau a little above von Weizsaecker's."""
    vectors = positions[:, None] - centres[None]
    squares = (vectors * vectors).sum(dim=2)
    n, gradient = torch.zeros(len(positions), dtype=torch.float64), torch.zeros(len(positions), 3, dtype=torch.float64)
    for electrons, exponent in ((2.0, 4.0), (3.0, 0.5)):
        each = electrons * (exponent / math.pi) ** 1.5 * torch.exp(-exponent * squares)
        n = n + each.sum(dim=1)
        gradient = gradient - 2.0 * exponent * (each.unsqueeze(2) * vectors).sum(dim=1)
    tau = (gradient * gradient).sum(dim=1) / (8.0 * n.clamp(min=1e-30)) + 0.7 * n ** (5.0 / 3.0)
    return DensityGrid(positions, weights, torch.cat([n.unsqueeze(0), gradient.t(), tau.unsqueeze(0)]))
