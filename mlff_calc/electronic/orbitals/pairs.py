"""Pairs of atoms whose blocks of a matrix are kept, in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mlff_calc.errors import StructureError
from mlff_calc.graph.neighbors import check_cutoff


@dataclass(frozen=True)
class BlockPairs:
    """Pairs i != j of atoms of one system, in both directions, sorted by i and j.

    Attributes:
        edge_index: Atoms i (rows of a block) and j (columns) [2, n_pairs], int64.
        reverse: Number of the pair (j, i) of each pair (i, j) [n_pairs], int64.
    """

    edge_index: Tensor
    reverse: Tensor

    def __len__(self) -> int:
        return self.edge_index.shape[1]

    @classmethod
    def all(cls, system_index: ArrayLike | Tensor) -> Self:
        """All pairs of atoms of the same system.

        Args:
            system_index: System of each atom [n_atoms], system after system.
        """
        return cls._of(*_all_pairs(_host(system_index)), len(_host(system_index)))

    @classmethod
    def within(cls, positions: ArrayLike | Tensor, system_index: ArrayLike | Tensor, cutoff: float) -> Self:
        """Pairs of atoms of the same system that are closer than a cutoff.

        All distances are computed; for molecules of thousands of atoms take the edges of a neighbour list (`of_edges`).

        Args:
            positions: Positions [n_atoms, 3], Angstrom.
            system_index: System of each atom [n_atoms], system after system.
            cutoff: Cutoff radius, Angstrom.

        Raises:
            OptionError: The cutoff is not finite and positive.
        """
        places = np.asarray(torch.as_tensor(positions).detach().cpu(), dtype=np.float64)
        first, second = _all_pairs(_host(system_index))
        vectors = places[second] - places[first]
        near = np.einsum("ij,ij->i", vectors, vectors) < check_cutoff(cutoff) ** 2
        return cls._of(first[near], second[near], len(places))

    @classmethod
    def of_edges(cls, edge_index: ArrayLike | Tensor, n_atoms: int) -> Self:
        """Pairs from the edges of a graph without periodicity; the order of the edges must be that of a `NeighborList`.

        Args:
            edge_index: Centres and neighbours [2, n_pairs], sorted by centre and neighbour.
            n_atoms: Number of atoms.

        Raises:
            StructureError: An atom is paired with itself, or a pair is listed twice, in another order or in one direction.
        """
        first, second = _host(edge_index)
        if (first == second).any():
            atom = int(first[first == second][0])
            raise StructureError(f"atom {atom} is paired with itself; periodic images have no blocks, so take molecules")
        if (np.diff(first * n_atoms + second) <= 0).any():
            raise StructureError("pairs of atoms repeat or are not sorted; give each once, sorted by centre and neighbour")
        return cls._of(first, second, n_atoms)

    @classmethod
    def _of(cls, first: NDArray[np.int64], second: NDArray[np.int64], n_atoms: int) -> Self:
        """Find the reverse of sorted pairs."""
        key, reverse_key = first * n_atoms + second, second * n_atoms + first
        reverse = np.searchsorted(key, reverse_key).clip(max=max(len(key) - 1, 0))
        alone = key[reverse] != reverse_key if len(key) else np.zeros(0, dtype=bool)
        if alone.any():
            i, j = int(first[alone][0]), int(second[alone][0])
            raise StructureError(f"the pair of atoms {i} and {j} has no pair {j} and {i}; list both directions")
        return cls(torch.from_numpy(np.stack([first, second])), torch.from_numpy(reverse))

    def to(self, device: torch.device | str) -> BlockPairs:
        """The pairs on another device."""
        return BlockPairs(self.edge_index.to(device), self.reverse.to(device))


def _host(index: ArrayLike | Tensor) -> NDArray[np.int64]:
    return np.asarray(torch.as_tensor(index).detach().cpu(), dtype=np.int64)


def _all_pairs(system_index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs i != j of the same system, sorted."""
    n_atoms = len(system_index)
    starts = np.searchsorted(system_index, system_index, side="left")
    others = np.searchsorted(system_index, system_index, side="right") - starts - 1
    first = np.repeat(np.arange(n_atoms), others)
    count = np.arange(len(first)) - np.repeat(np.cumsum(others) - others, others)
    second = np.repeat(starts, others) + count
    return first, second + (second >= first)
