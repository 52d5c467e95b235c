"""Stiffness of a molecule by direction: how fast its score changes along each displacement of its atoms.

The molecule is approximated by springs between its atoms,

    F(x)/kT ~ -sum_p (k_p (r_p - <r_p>) + t_p) grad r_p,     G(x) = sum_p k_p grad r_p grad r_p^T + g,

with one k_p >= 0 and t_p for all pairs of the same classes of atoms and the same number of bonds between them, fitted by
least squares to forces of frames. G is read at any positions, turns with them, and knows no order of atoms. The constant g
is the stiffness of directions without springs, such as torsions.

Source: Tirion, Phys. Rev. Lett. 77, 1905 (1996), for networks of springs in place of a force field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]
FREE = 0.1
"""Noise up to which directions without springs learn from forces, in units of the spread of the structure. Raising it
learns torsions from forces up to more noise, and takes the target's variance up above it (malonaldehyde: least at 0.1)."""
FRAMES = 500
"""Largest number of frames that springs are fitted to. Raising it takes more memory."""


@dataclass(frozen=True)
class Stiffness:
    """Springs between atoms.

    Attributes:
        springs: Atoms i and j and constant k/kT (1/length^2) of each spring.
        least: Stiffness g of every direction, 1/length^2.
    """

    springs: tuple[tuple[int, int, float], ...]
    least: float

    def matrices(self, positions: Tensor) -> Tensor:
        """Return G [n_frames, 3 n_atoms, 3 n_atoms], 1/length^2, at positions [n_frames, n_atoms, 3]."""
        n_frames, n_atoms = positions.shape[:2]
        ends = torch.tensor([spring[:2] for spring in self.springs], device=positions.device)
        constants = positions.new_tensor([spring[2] for spring in self.springs])
        vectors = positions[:, ends[:, 0]] - positions[:, ends[:, 1]]
        rays = vectors / vectors.norm(dim=2, keepdim=True).clamp_min(1e-12)
        stretch = positions.new_zeros(n_frames, len(ends), n_atoms, 3)
        numbers = torch.arange(len(ends), device=positions.device)
        stretch[:, numbers, ends[:, 0]] = rays
        stretch[:, numbers, ends[:, 1]] = -rays
        stretch = stretch.flatten(2)
        one = torch.eye(3 * n_atoms, dtype=positions.dtype, device=positions.device)
        return (constants[:, None] * stretch).transpose(1, 2) @ stretch + self.least * one


def fit_springs(
    positions: FloatArray, scores: FloatArray, classes: NDArray[np.int64], hops: NDArray[np.int64]
) -> list[tuple[int, int, float]]:
    """Fit springs to forces, and return atoms and constant of those that pull back.

    Args:
        positions: [n_frames, n_atoms, 3].
        scores: F/kT [n_frames, n_atoms, 3].
        classes: Classes of atoms [n_atoms].
        hops: Number of bonds between atoms [n_atoms, n_atoms].
    """
    from scipy.optimize import lsq_linear

    some = np.linspace(0, len(positions) - 1, min(len(positions), FRAMES)).astype(int)
    positions, scores = positions[some], scores[some]
    i, j = np.triu_indices(positions.shape[1], 1)
    kinds = _kinds(classes[i], classes[j], hops[i, j])
    vectors = positions[:, i] - positions[:, j]
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    longer, rays = lengths - lengths.mean(axis=0), vectors / lengths
    n = int(kinds.max()) + 1
    ends = np.zeros((n, len(i), positions.shape[1]))  # -1 and 1 at the atoms of pairs, by kind
    ends[kinds, np.arange(len(i)), i], ends[kinds, np.arange(len(i)), j] = -1.0, 1.0
    pulls = [np.einsum("fpx,kpa->faxk", factor * rays, ends).reshape(-1, n) for factor in (longer, np.ones_like(longer))]
    least = np.repeat([0.0, -np.inf], n)
    found = lsq_linear(np.concatenate(pulls, axis=1), scores.ravel(), bounds=(least, np.inf)).x[:n][kinds]
    return [(int(a), int(b), float(f"{k:.6g}")) for a, b, k in zip(i, j, found, strict=True) if k > 0.0]


def _kinds(first: NDArray[np.int64], second: NDArray[np.int64], hops: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the kind of each pair."""
    keys = np.stack([np.minimum(first, second), np.maximum(first, second), hops], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
