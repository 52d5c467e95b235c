"""ZBL: the universal curve at short range, zero at bond distances, and smooth in between."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms

from mlff_calc.graph import graph_from_atoms
from mlff_calc.heads import Features, ZBLRepulsion


def energies(distances: np.ndarray, reach: float = 0.8) -> np.ndarray:
    head = ZBLRepulsion(Features(0, 1, 5.0, species=[1, 8]), reach)
    values = []
    for distance in distances:
        graph = graph_from_atoms(Atoms("OH", positions=[[0, 0, 0], [0, 0, distance]]), 5.0)
        graph["species"] = torch.tensor([1, 0])
        graph["energies"] = torch.zeros(2, dtype=torch.float64)
        values.append(head(graph)["energies"].sum().item())
    return np.array(values)


def test_short_range_is_the_universal_repulsion() -> None:
    r = 0.11
    x = r * (8**0.23 + 1) / 0.4685
    phi = 0.18175 * np.exp(-3.1998 * x) + 0.50986 * np.exp(-0.94229 * x)
    phi += 0.28022 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.20162 * x)
    expected = 14.399645 * 8 / r * phi
    assert abs(energies(np.array([r]), reach=4.0)[0] / expected - 1) < 1e-6


def test_nothing_at_bonded_distances() -> None:
    assert (energies(np.array([0.78, 0.96, 1.5, 4.9])) == 0).all()


def test_smooth_and_decreasing() -> None:
    r = np.linspace(0.2, 0.85, 400)
    value = energies(r)
    assert (np.diff(value) <= 0).all()
    assert abs(np.gradient(value, r)[np.searchsorted(r, 0.775)]) < 1e-2
