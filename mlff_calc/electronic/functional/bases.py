"""Semi-local functionals in torch, by name, for closed shells: what learned functionals begin as."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlff_calc.electronic.functional import pbe, r2scan, uniform

BASES = {"lda": "lda,pw_mod", "pbe": "pbe,pbe", "r2scan": "r2scan"}
"""Names of base functionals, with their spelling in PySCF."""
ROWS = {"lda": 4, "pbe": 4, "r2scan": 5}
"""Number of rows of a density that base functionals need: n and its gradient, and tau."""
LEAST = 1e-13
"""Smallest density that counts, electrons/Bohr^3; below it the energy density is zero. Raising it loses energy in tails."""


class Local(NamedTuple):
    """Local quantities at points, with harmless values where the density is too small to count.

    Attributes:
        root: Cube root of the density [n_points].
        s2: Square of the reduced gradient [n_points].
        tau: Kinetic energy density over n^(5/3) [n_points]; None without.
        density: Density [n_points]; zero where it does not count.
    """

    root: Tensor
    s2: Tensor
    tau: Tensor | None
    density: Tensor


def local(density: Tensor, *, with_tau: bool) -> Local:
    """Return the local quantities of a density [4 or 5, n_points]; values are masked before powers are taken of them."""
    counts = density[0].detach() > LEAST
    n = torch.where(counts, density[0], torch.ones_like(density[0]))
    gradient = torch.where(counts, density[1:4], torch.zeros_like(density[1:4]))
    root = n ** (1.0 / 3.0)
    square = root * root
    s2 = (gradient * gradient).sum(dim=0) * (pbe.S2_OF_GRADIENT / (n * n * square))
    tau = None
    if with_tau:
        tau = torch.where(counts, density[4], torch.ones_like(density[4])) / (n * square)
    return Local(root, s2, tau, torch.where(counts, density[0], torch.zeros_like(density[0])))


def energy_per_electron(name: str, points: Local) -> Tensor:
    """Exchange-correlation energy per electron [n_points] of a base functional, Hartree."""
    if name == "lda":
        return uniform.exchange(points.root) + uniform.correlation((uniform.RADIUS / points.root).sqrt())
    if points.tau is None:
        return pbe.energy(points.root, points.s2)
    return r2scan.energy(points.root, points.s2, points.tau)
