"""Parts of molecules that move about bonds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.graph.bonds import bonds_of
from mlff_calc.pretraining.hinges import HINGES, Scales, hinges_of, moved_about_hinges, with_hinges

TURNS, ALL = Scales(0.0, 0.0, 2.0, 0.0), Scales(0.05, 0.1, 1.0, 0.2)


def moved(names: list[str], scales: Scales, seed: int = 0) -> list[np.ndarray]:
    known = with_hinges([graph_from_atoms(molecule(name), 9.0) for name in dict.fromkeys(names)], scales)
    graph = collate([dict(zip(dict.fromkeys(names), known, strict=True))[name] for name in names])
    positions = moved_about_hinges(graph, torch.Generator().manual_seed(seed)).numpy()
    return np.split(positions, np.cumsum([len(molecule(name)) for name in names])[:-1])


def lengths(name: str, positions: np.ndarray) -> np.ndarray:
    bonds = bonds_of(molecule(name).numbers, molecule(name).positions[None])
    return np.array([np.linalg.norm(positions[i] - positions[j]) for i, j in bonds])


@pytest.mark.parametrize(
    ("name", "n_hinges", "n_turns"),
    [("CH3CH2OH", 8, 2), ("C6H6", 6, 0), ("C2H4", 5, 0), ("trans-butane", 13, 3), ("CH3COOH", 7, 2), ("H2O", 2, 0)],
)
def test_hinges_are_the_bonds_in_no_ring(name: str, n_hinges: int, n_turns: int) -> None:
    atoms = molecule(name)
    found = hinges_of(atoms.numbers, atoms.positions)
    assert len(found.atoms) == n_hinges
    assert int(found.turns.sum()) == n_turns
    assert int(found.moved.sum(axis=0).max()) <= len(atoms) // 2
    assert found.moved[found.atoms[:, 1], range(n_hinges)].all()
    assert not found.moved[found.atoms[:, 0], range(n_hinges)].any()


def test_torsions_keep_bonds_and_angles_and_change_the_rest() -> None:
    names = ["trans-butane", "H2O", "CH3COOH"]
    for name, positions in zip(names, moved(names, TURNS), strict=True):
        start = molecule(name).positions
        np.testing.assert_allclose(lengths(name, positions), lengths(name, start), atol=1e-10)
        before, after = (Atoms(molecule(name).numbers, x).get_all_distances() for x in (start, positions))
        near = before < 1.9 if name == "trans-butane" else before < 1.3
        np.testing.assert_allclose(after[near], before[near], atol=1e-10)
        changed = float(np.abs(after - before).max())
        assert changed > 0.1 if name != "H2O" else changed < 1e-10


def test_lengths_and_angles_change_by_their_scales() -> None:
    """Bonds in rings do not change; those of water by the drawn lengths, with the right deviation."""
    drawn = np.concatenate([lengths("H2O", one) for one in moved(["H2O"] * 800, ALL)])
    assert np.std(drawn - lengths("H2O", molecule("H2O").positions)[0]) == pytest.approx(0.05, rel=0.1)
    angles = [Atoms("OH2", one).get_angle(1, 0, 2) for one in moved(["H2O"] * 800, Scales(0.0, 0.1, 0.0, 0.0))]
    assert np.std(np.radians(angles)) == pytest.approx(0.1 * np.sqrt(2.0), rel=0.1)
    ring = moved(["C6H6"], ALL)[0][:6]
    np.testing.assert_allclose(np.linalg.norm(ring - np.roll(ring, 1, axis=0), axis=1), 1.395, atol=0.01)


def test_molecules_without_hinges() -> None:
    graphs = with_hinges([graph_from_atoms(molecule("H2O"), 3.0)] * 2, TURNS)
    assert graphs[0][HINGES].shape == (1, 0, 3)
    graph = collate(graphs)
    assert torch.equal(moved_about_hinges(graph, torch.Generator()), graph["positions"])
