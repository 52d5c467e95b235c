"""From whole matrices to padded blocks of atoms and pairs, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = Sequence[int] | NDArray[np.int64]


def orbital_places(numbers: Numbers, shells: Mapping[int, Sequence[int]], padded: Sequence[int]) -> NDArray[np.int64]:
    """Number of the orbital of a molecule at each place of the padded blocks [n_atoms, width]; -1 where there is none.

    Args:
        numbers: Atomic numbers of the molecule.
        shells: Degrees of the shells of each element, in the order of its orbitals.
        padded: Degrees of the shells of a padded block, rising.
    """
    starts = np.concatenate([[0], np.cumsum([2 * degree + 1 for degree in padded])])
    by_element = {}
    for z, own in shells.items():
        row, seen, orbital = np.full(starts[-1], -1), dict.fromkeys(padded, 0), 0
        for degree in own:
            place = starts[padded.index(degree) + seen[degree]]
            row[place : place + 2 * degree + 1] = np.arange(orbital, orbital + 2 * degree + 1)
            seen[degree] += 1
            orbital += 2 * degree + 1
        by_element[z] = row, orbital
    first = np.concatenate([[0], np.cumsum([by_element[int(z)][1] for z in numbers])])
    rows = np.stack([by_element[int(z)][0] for z in numbers])
    return np.where(rows >= 0, rows + first[:-1, None], -1)


def blocks_of(matrix: NDArray[np.float64], places: NDArray[np.int64], edge_index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Blocks of atoms [n_atoms, width, width] and of pairs [n_edges, width, width]; zero where there is no orbital.

    Args:
        matrix: Matrix [n_orbitals, n_orbitals].
        places: Result of `orbital_places`.
        edge_index: Atoms of each pair [2, n_edges].
    """
    padded = np.pad(matrix, [(0, 1), (0, 1)])  # -1 is the last, which is zero
    first, second = places[edge_index[0]], places[edge_index[1]]
    atoms = padded[places[:, :, None], places[:, None, :]]
    pairs = padded[first[:, :, None], second[:, None, :]]
    return torch.from_numpy(atoms), torch.from_numpy(pairs)


def matrix_of(atoms: Tensor, pairs: Tensor, places: NDArray[np.int64], edge_index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Whole matrix [n_orbitals, n_orbitals] from blocks, the reverse of `blocks_of`; blocks of absent pairs are zero."""
    n_orbitals = int(places.max()) + 1
    whole = np.zeros((n_orbitals + 1, n_orbitals + 1))
    first, second = places[edge_index[0]], places[edge_index[1]]
    whole[places[:, :, None], places[:, None, :]] = atoms.detach().cpu().double().numpy()
    whole[first[:, :, None], second[:, None, :]] = pairs.detach().cpu().double().numpy()
    return whole[:-1, :-1]
