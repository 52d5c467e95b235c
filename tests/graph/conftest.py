from __future__ import annotations

import numpy as np
import pytest
from ase.neighborlist import primitive_neighbor_list


def _rows(centers, neighbors, shifts) -> np.ndarray:
    table = np.column_stack([centers, neighbors, shifts]).astype(np.int64).reshape(-1, 5)
    return table[np.lexsort(table.T[::-1])]


@pytest.fixture(scope="session")
def sorted_pairs():
    """Return pairs as a sorted table [n_pairs, 5] of (i, j, S), so that two lists can be compared as multisets."""
    return _rows


@pytest.fixture(scope="session")
def ase_pairs():
    """Return ASE's list for the user's unchanged cell and positions, as a sorted table."""

    def reference(positions, cell, pbc, cutoff) -> np.ndarray:
        return _rows(*primitive_neighbor_list("ijS", pbc, cell, positions, cutoff))

    return reference


@pytest.fixture(scope="session")
def random_cell():
    """Function that draws a cell [3, 3] that is not too flat: skewed, left-handed or orthogonal."""

    def draw(rng: np.random.Generator, scale: float) -> np.ndarray:
        while True:
            cell = rng.normal(size=(3, 3)) * scale
            if rng.random() < 0.25:
                cell = np.diag(np.abs(np.diag(cell)))
            if abs(np.linalg.det(cell)) > 8.0 and (1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)).min() > 1.0:
                return cell

    return draw
