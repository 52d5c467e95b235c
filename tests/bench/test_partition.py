"""Counts of atoms and edges per domain, compared with known values."""

from __future__ import annotations

import numpy as np
import pytest

from mlff_calc.bench.partition import partition_work
from mlff_calc.bench.systems import silicon
from mlff_calc.errors import OptionError


def test_domains_of_a_crystal() -> None:
    one, eight = partition_work(4096, [1, 8], cutoff=5.0, n_layers=2)
    assert (one["n_own"], one["n_edges"], one["imbalance"]) == (4096, 4096 * 28, 1.0)
    assert one["ghost_edges"] == 0  # the only rank owns all atoms
    assert 0.9 * 512 < eight["n_own"] < 1.1 * 512
    assert eight["imbalance"] < 1.1
    assert eight["n_ghosts"] in ghosts_of_octants(5.5)
    assert eight["ghost_edges"] > 0.5 * eight["n_edges"]


def ghosts_of_octants(reach: float) -> set[int]:
    """Ghosts are counted image by image."""
    atoms = silicon(4096)
    length = atoms.cell.lengths()[0]
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 1, 3)
    images = (atoms.positions % length + shifts * length).reshape(-1, 3)
    found = set()
    for corner in np.ndindex(2, 2, 2):
        low = np.array(corner) * length / 2
        near = ((images >= low - reach) & (images <= low + length / 2 + reach)).all(axis=1)
        own = ((images >= low) & (images < low + length / 2)).all(axis=1)
        found.add(int(near.sum() - own.sum()))
    return found


def test_more_layers_reach_further() -> None:
    (two,) = partition_work(4096, [8], cutoff=5.0, n_layers=2)
    (one,) = partition_work(4096, [8], cutoff=5.0, n_layers=1)
    assert one["ghost_edges"] == 0
    assert two["ghost_edges"] > 0
    assert one["n_edges"] == two["n_edges"]


def test_no_cube() -> None:
    with pytest.raises(OptionError, match="no cube"):
        partition_work(512, [6], cutoff=5.0, n_layers=2)
