"""Rotations of orbitals for tests, exact in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mlff_calc.nn.frames import RaiseDegree

AXES = [1, 2, 0]
"""Axes of e3nn, in which the components m = -l..l about z are those of e3nn."""


def random_turn(seed: int, *, mirrored: bool) -> Tensor:
    """Random rotation [3, 3], followed by an inversion where `mirrored`."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return torch.from_numpy(q * np.linalg.det(q) * (-1.0 if mirrored else 1.0))


def of_shells(turn: Tensor, shells: list[int]) -> Tensor:
    """Matrix [width, width] by which a rotation or reflection of space acts on the orbitals of shells."""
    sign = torch.det(turn).sign()
    proper = (turn * sign)[AXES][:, AXES]
    blocks = [torch.ones(1, 1, dtype=torch.float64), proper]
    while len(blocks) <= max(shells):
        blocks.append(RaiseDegree(len(blocks))(blocks[-1][None], proper[None])[0])
    return torch.block_diag(*[blocks[degree] * sign**degree for degree in shells])
