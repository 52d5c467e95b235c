"""Graph frequencies of a molecule: eigenvalues and eigenvectors of the Laplacian of its bonds.

Eigenvectors are arbitrary up to a sign, and up to a rotation where eigenvalues are equal (every ring, every methyl group).
Modes are therefore told apart by eigenvalues alone, a smooth kernel pools equal ones, and eigenspaces are never cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlff_calc.errors import RecipeError
from mlff_calc.graph.bonds import hop_counts

EQUAL = 1e-9
"""Difference of eigenvalues, relative to the largest, up to which they count as equal; rounding gives 1e-15."""
WIDTH = 0.05
"""Width of the kernel that pools modes, relative to the largest eigenvalue. Raising it pools more of them."""


def laplacian(n: int, bonds: Sequence[Sequence[int]], hops: int = 2) -> NDArray[np.float64]:
    """Laplacian D - A [n, n] of the graph that joins atoms up to a number of bonds apart, with equal weights.

    Args:
        n: Number of atoms.
        bonds: Pairs of bonded atoms.
        hops: 1 for bonds alone, 2 for second neighbours too.
    """
    between = hop_counts(n, [list(bond) for bond in bonds])
    adjacent = ((between > 0) & (between <= hops)).astype(np.float64)
    return np.diag(adjacent.sum(axis=1)) - adjacent


def pieces(n: int, bonds: Sequence[Sequence[int]]) -> list[list[int]]:
    """Atoms of each connected piece of a graph."""
    label = list(range(n))
    for i, j in bonds:
        old, new = label[j], label[i]
        label = [new if one == old else one for one in label]
    return [[k for k in range(n) if label[k] == one] for one in dict.fromkeys(label)]


@dataclass(frozen=True)
class Spectrum:
    """Modes of a graph, by rising eigenvalue.

    Attributes:
        values: Eigenvalues [n_modes], float64.
        vectors: Eigenvectors as columns [n_atoms, n_modes], float64.
    """

    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> Spectrum:
        """Diagonalize a symmetric matrix in double precision."""
        values, vectors = np.linalg.eigh(matrix)
        return cls(torch.from_numpy(np.maximum(values, 0.0)), torch.from_numpy(vectors))

    @classmethod
    def of_atoms(cls, matrix: NDArray[np.float64]) -> Spectrum:
        """Modes that are atoms, with numbers of neighbours in place of eigenvalues: no Fourier transform."""
        return cls(torch.from_numpy(np.diag(matrix).copy()), torch.eye(len(matrix), dtype=torch.float64))

    def eigenspaces(self) -> list[tuple[int, int]]:
        """First mode of each eigenspace, and the first one after it."""
        gap = EQUAL * max(1.0, float(self.values[-1]))
        jumps = (torch.diff(self.values) > gap).nonzero().flatten().tolist()
        edges = [0, *(jump + 1 for jump in jumps), len(self.values)]
        return list(itertools.pairwise(edges))

    def lowest(self, modes: int | None = None, eigenspaces: int | None = None) -> Spectrum:
        """Keep the lowest modes, or those of the lowest eigenspaces.

        Args:
            modes: Number of modes; None for all.
            eigenspaces: Number of eigenspaces; None for all.

        Raises:
            RecipeError: There are not as many, or the cut goes through an eigenspace; the message names its eigenvalues.
        """
        spaces = self.eigenspaces()
        if eigenspaces is not None:
            if not 1 <= eigenspaces <= len(spaces):
                raise RecipeError(f"eigenspaces is {eigenspaces}; give 1 to {len(spaces)}, the number of this molecule")
            modes = spaces[eigenspaces - 1][1]
        if modes is None:
            return self
        ends = [end for _, end in spaces]
        if modes not in ends:
            equal = [(first, end) for first, end in spaces if first < modes < end]
            named = f"is not from 1 to {len(self.values)}"
            if equal:
                values = ", ".join(f"{value:.6g}" for value in self.values[slice(*equal[0])].tolist())
                named = f"cuts through the eigenvalues {values}, which are equal"
            raise RecipeError(f"modes is {modes}, which {named}; give one of {', '.join(map(str, ends))}")
        return Spectrum(self.values[:modes], self.vectors[:, :modes])

    def kernel(self, *, pooled: bool = True) -> Tensor:
        """Weights [n_modes, n_modes] that pool modes of near eigenvalues; one for each mode alone if not `pooled`."""
        if not pooled:
            return torch.eye(len(self.values), dtype=torch.float64)
        width = WIDTH * max(1.0, float(self.values.max()))
        difference = self.values[:, None] - self.values[None, :]
        return torch.exp(-0.5 * (difference / width).square())
