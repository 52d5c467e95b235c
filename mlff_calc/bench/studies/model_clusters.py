"""Model clusters of the literature on samplers, in reduced units: Lennard-Jones clusters and four particles of double wells.

    LJ:  E = sum over ordered pairs of (r^-12 - 2 r^-6) + 1/2 sum_i |x_i - mean(x)|^2
    DW4: E = sum over pairs of -4 (r - 4)^2 + 0.9 (r - 4)^4,   in two dimensions

with kT = 1 for both. In LJ every pair counts twice, so that the well is 2 kT deep.

Sources: Akhound-Sadegh et al., "Iterated denoising energy matching" (2024); Koehler et al., "Equivariant flows" (2020),
Sec. 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlff_calc.sampling.evaluators import Evaluation, Evaluator
from mlff_calc.sampling.systems import FloatArray, Systems


def lennard_jones(positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Energies [n] and forces [n, n_atoms, 3] of LJ clusters [n, n_atoms, 3], in reduced units."""
    vectors, squares = _pairs(positions)
    inverse6 = 1.0 / squares**3
    offsets = positions - positions.mean(axis=1, keepdims=True)
    upper = np.triu_indices(positions.shape[1], 1)
    energies = 2.0 * (inverse6**2 - 2.0 * inverse6)[:, upper[0], upper[1]].sum(axis=1)
    slopes = 24.0 * (inverse6**2 - inverse6) / squares  # -dE/dr / r of a pair, which counts twice
    _without_own(slopes)
    return energies + 0.5 * (offsets**2).sum(axis=(1, 2)), np.einsum("nij,nijc->nic", slopes, vectors) - offsets


def double_wells(positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Energies [n] and forces [n, n_atoms, 3] of particles whose pairs have a double well, in reduced units."""
    vectors, squares = _pairs(positions)
    distances = np.sqrt(squares)
    beyond = distances - 4.0
    upper = np.triu_indices(positions.shape[1], 1)
    energies = (-4.0 * beyond**2 + 0.9 * beyond**4)[:, upper[0], upper[1]].sum(axis=1)
    slopes = (8.0 * beyond - 3.6 * beyond**3) / distances
    _without_own(slopes)
    return energies, np.einsum("nij,nijc->nic", slopes, vectors)


def _pairs(positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Vectors x_i - x_j [n, n_atoms, n_atoms, 3] and their squares, 1 in place of those of an atom with itself."""
    vectors = positions[:, :, None] - positions[:, None, :]
    squares = (vectors**2).sum(axis=-1)
    place = np.arange(positions.shape[1])
    squares[:, place, place] = 1.0
    return vectors, squares


def _without_own(matrices: FloatArray) -> None:
    place = np.arange(matrices.shape[1])
    matrices[:, place, place] = 0.0


@dataclass(frozen=True)
class Cluster:
    """A model cluster.

    Attributes:
        name: Name.
        n_atoms: Number of particles.
        dimensions: Number of dimensions of space.
        energy: Function from positions [n, n_atoms, 3] to energies [n] and forces [n, n_atoms, 3].
        file: Name of a file of equilibrium samples in the folder `boltzmann` of the data sets.
    """

    name: str
    n_atoms: int
    dimensions: int
    energy: Callable[[FloatArray], tuple[FloatArray, FloatArray]]
    file: str


CLUSTERS = {
    "lj13": Cluster("lj13", 13, 3, lennard_jones, "lj13.npz"),
    "dw4": Cluster("dw4", 4, 2, double_wells, "dw4.npz"),
}


class ClusterEvaluator(Evaluator):
    """Energies and forces of copies of one cluster.

    Args:
        cluster: The cluster.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def name(self) -> str:
        """Name of the cluster."""
        return self.cluster.name

    def __call__(self, systems: Systems, positions: FloatArray) -> Evaluation:
        """See `Evaluator`."""
        energies, forces = self.cluster.energy(positions.reshape(len(systems), self.cluster.n_atoms, 3))
        return Evaluation(energies, forces.reshape(-1, 3))
