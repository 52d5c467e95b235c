"""What forces are worth with few frames: a score of pairs of atoms, fitted in closed form, on Lennard-Jones clusters.

The score of atom i is sum_j sum_k c_k phi_k(r_ij) (x_i - x_j)/r_ij + c_0 (x_i - mean(x)), with normal functions phi_k of the
distance and two inverse powers. Its coefficients are those of ridge regression on a target at one noise level. Errors are
relative mean squares against F/kT on equilibrium frames that were not fitted.
"""

from __future__ import annotations

import numpy as np
import torch

from mlff_calc.sampling.systems import FloatArray
from mlff_calc.score import Target
from mlff_calc.score.moments import centred

N_NORMAL = 51
RIDGE = 1e-6
"""Ridge in units of the mean square of the terms. Raising it smooths the fit."""


def features(positions: FloatArray) -> FloatArray:
    """Terms of the score [n, n_atoms, 3, 54] of positions [n, n_atoms, 3]."""
    n_atoms = positions.shape[1]
    vectors = positions[:, :, None] - positions[:, None]
    distances = np.linalg.norm(vectors, axis=-1) + np.eye(n_atoms)
    off = 1.0 - np.eye(n_atoms)
    centres = np.linspace(0.7, 3.7, N_NORMAL)
    width = centres[1] - centres[0]
    radial = [np.exp(-0.5 * ((distances - centre) / width) ** 2) for centre in centres]
    radial += [np.minimum(distances**-power, 30.0) for power in (13, 7)]
    unit = vectors / distances[..., None]
    terms = [np.einsum("nij,nijc->nic", values * off, unit) for values in radial]
    return np.stack([*terms, centred(positions)], axis=-1)


def relative_error(
    frames: FloatArray,
    scores: FloatArray,
    held_out: tuple[FloatArray, FloatArray],
    target: Target,
    sigma: float,
    *,
    draws: int,
    seed: int = 0,
) -> float:
    """Relative mean square error of the fitted score on frames that were not fitted.

    Args:
        frames: Training frames [n, n_atoms, 3].
        scores: F/kT of them.
        held_out: Other frames and their F/kT.
        target: What is fitted.
        sigma: Noise.
        draws: Number of noise draws of each frame.
        seed: Seed of the noise.
    """
    random = np.random.default_rng(seed)
    repeated, labels = np.repeat(frames, draws, axis=0), np.repeat(scores, draws, axis=0)
    noise = centred(random.normal(size=repeated.shape))
    level = torch.tensor(sigma, dtype=torch.float64)
    wanted = target(torch.from_numpy(labels), torch.from_numpy(noise), level).numpy().reshape(-1)
    matrix = features(repeated + sigma * noise).reshape(len(wanted), -1)
    square = matrix.T @ matrix
    square += RIDGE * np.trace(square) / len(square) * np.eye(len(square))
    coefficients = np.linalg.solve(square, matrix.T @ wanted)
    places, right = held_out
    predicted = (features(places).reshape(-1, len(square)) @ coefficients).reshape(right.shape)
    return float(((predicted - right) ** 2).sum() / (right**2).sum())
