"""Least squares of the force field of the base `valence` to accelerations of a trajectory."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import torch
from ase import units
from torch import Tensor

from mlff_calc.datasets.motion.windows import MOST_SPACING, Windows
from mlff_calc.errors import DatasetError
from mlff_calc.rollout.valence import Valence, lengths
from mlff_calc.rollout.valence_base import ValenceBase
from mlff_calc.training.rollout.data import Molecule

FRAMES, ROWS = 2000, 20
"""Least number of frames, and of components of accelerations for each term. Raising them fits more accurately and longer."""
RIDGE = 1e-5
"""Weight of the squares of the parameters, in units of their own terms. Raising it makes the force field smoother."""
STRAIGHT = math.cos(math.radians(165.0))
"""Cosine of the mean angle beyond which an angle is straight, and torsions over it are not known."""
MEMORY = 8_000_000
"""Largest number of derivatives of terms that are computed at once."""


def fit_valence(windows: Windows, molecule: Molecule, reference: Tensor) -> ValenceBase:
    """Fit the force field to the frames of the training part.

    Args:
        windows: Windows of the training part.
        molecule: Atoms, bonds and masses.
        reference: Mean structure [n_atoms, 3], which the base keeps for comparison.

    Raises:
        DatasetError: Frames are too far apart in time for accelerations.
    """
    run, n = windows.run, len(molecule.numbers)
    if run.timestep > MOST_SPACING:
        raise DatasetError(
            f"frames of {run.path} are {run.timestep:g} fs apart, and the base `valence` takes accelerations from frames "
            f"that are at most {MOST_SPACING:g} fs apart; make a trajectory with all its steps, or set base: harmonic"
        )
    positions = torch.from_numpy(run.positions[windows.evenly(4000)])
    straight = straight_angles(positions, molecule.bonds)
    base = ValenceBase(molecule.masses, molecule.bonds, straight, min(0.5, run.timestep))
    base.reference.copy_(reference)
    field = base.field
    for pairs, mean, spread in (
        (field.terms.near, field.mean, field.spread), (field.terms.far, field.apart, field.apart_spread),
    ):  # fmt: skip
        found = lengths(positions, pairs)
        mean.copy_(found.mean(dim=0))
        spread.copy_((found - mean).square().mean(dim=0).sqrt().clamp(min=1e-3))
    wanted = max(FRAMES, ROWS * len(field.theta) // (3 * n))
    low, high = windows.span
    frames = np.unique(np.linspace(max(low, 1), min(high, len(run.positions) - 1) - 1, wanted).astype(np.int64))
    before, here, after = (torch.from_numpy(run.positions[frames + k]) for k in (-1, 0, 1))
    pull = (after - 2.0 * here + before) / run.timestep**2
    field.theta.copy_(least_squares(field, here, pull))
    return base


def straight_angles(positions: Tensor, bonds: list[list[int]]) -> list[list[int]]:
    """Angles (neighbour, atom, neighbour) that are straight in the mean of frames [n_frames, n_atoms, 3]."""
    around: dict[int, list[int]] = {}
    for i, j in bonds:
        around.setdefault(i, []).append(j)
        around.setdefault(j, []).append(i)
    found = []
    for j, near in around.items():
        for i, k in combinations(sorted(near), 2):
            one, two = positions[:, i] - positions[:, j], positions[:, k] - positions[:, j]
            if float(torch.cosine_similarity(one, two, dim=1).mean()) < STRAIGHT:
                found.append([i, j, k])
    return found


def least_squares(field: Valence, positions: Tensor, pull: Tensor) -> Tensor:
    """Parameters [n_terms] whose accelerations are nearest, weighed by mass.

    Args:
        field: Force field with its scales.
        positions: [n_frames, n_atoms, 3] Angstrom.
        pull: Accelerations [n_frames, n_atoms, 3], Angstrom/fs^2.
    """
    n_terms, n = len(field.theta), positions.shape[1]
    root = field.masses.sqrt().repeat_interleave(3)
    square, right = torch.zeros(n_terms, n_terms, dtype=torch.float64), torch.zeros(n_terms, dtype=torch.float64)
    ways = torch.eye(3 * n, dtype=torch.float64).view(3 * n, n, 3)
    size = max(1, MEMORY // (n_terms * 3 * n))
    for begin in range(0, len(positions), size):
        x = positions[begin : begin + size]
        slopes = [torch.func.jvp(field.phi, (x,), (way.expand_as(x),))[1] for way in ways]
        rows = (-torch.stack(slopes, dim=1) / root[:, None]).flatten(0, 1)
        aim = (pull[begin : begin + size].flatten(1) * root / units.fs**2).flatten()
        square += rows.T @ rows
        right += rows.T @ aim
    scale = square.diagonal().sqrt().clamp(min=1e-12)
    square = square / scale[:, None] / scale + RIDGE * torch.eye(n_terms, dtype=torch.float64)
    return torch.linalg.solve(square, right / scale) / scale
