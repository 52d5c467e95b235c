"""Frames are checked copies that share unchanged parts."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule

from mlff_calc.errors import StructureError
from mlff_calc.graph import NeighborList, graph_from_atoms
from mlff_calc.graph.frame import Frame, equal


def test_a_step_shares_all_but_positions():
    atoms = bulk("Si", cubic=True)
    first = Frame.of_atoms(atoms)
    atoms.positions += 0.01
    second = Frame.of_atoms(atoms, first)
    assert second.system is first.system
    np.testing.assert_array_equal(second.positions, first.positions + 0.01)
    atoms.positions += 1.0
    assert second.positions.max() < atoms.positions.max() - 0.9


@pytest.mark.parametrize("part", ["numbers", "cell", "pbc"])
def test_changed_parts_are_new_and_others_are_shared(part):
    atoms = bulk("Si", cubic=True)
    first = Frame.of_atoms(atoms)
    if part == "numbers":
        atoms.numbers[3] = 6
    elif part == "cell":
        atoms.cell[2, 2] += 0.5
    else:
        atoms.pbc[1] = False
    second = Frame.of_atoms(atoms, first)
    for name in ("numbers", "cell", "pbc"):
        assert (getattr(second, name) is getattr(first, name)) == (name != part)
    np.testing.assert_array_equal(getattr(second, part), getattr(atoms, part))
    assert second.system.volume == atoms.cell.volume
    assert second.system.is_periodic


def test_every_frame_is_checked():
    atoms = bulk("Si", cubic=True)
    first = Frame.of_atoms(atoms)
    atoms.positions[2, 1] = np.inf
    with pytest.raises(StructureError, match="atom 2 is not finite"):
        Frame.of_atoms(atoms, first)
    atoms.positions[2, 1] = 0.0
    atoms.cell[1] = 0.0
    with pytest.raises(StructureError, match="vector is zero"):
        Frame.of_atoms(atoms, first)
    atoms.cell[1] = [0.0, 5.43, 0.0]
    atoms.pbc = False
    Frame.of_atoms(atoms, first)


def test_another_structure_shares_nothing():
    frame = Frame.of_atoms(molecule("H2O"), Frame.of_atoms(bulk("Si", cubic=True)))
    assert frame.numbers.tolist() == [8, 1, 1]
    assert not frame.system.is_periodic


def test_graphs_of_a_run_share_equal_parts_and_equal_new_graphs():
    atoms, neighbors = bulk("Si", cubic=True), NeighborList(4.0)
    frame = Frame.of_atoms(atoms)
    neighbors.follow(frame)
    before = neighbors.graph()
    kept = {name: tensor.clone() for name, tensor in before.items()}
    for step in range(5):
        atoms.rattle(0.05, seed=step)
        frame = Frame.of_atoms(atoms, frame)
        neighbors.follow(frame)
        graph, fresh = neighbors.graph(), graph_from_atoms(atoms, 4.0)
        assert graph["atomic_numbers"] is before["atomic_numbers"]
        assert set(graph) == set(fresh)
        for name, tensor in fresh.items():
            assert graph[name].dtype == tensor.dtype
            np.testing.assert_array_equal(graph[name].numpy(), tensor.numpy())
    for name, tensor in kept.items():
        np.testing.assert_array_equal(before[name].numpy(), tensor.numpy())


def test_equal_means_shape_and_bits_or_values_of_two_types():
    numbers = np.arange(6)
    assert equal(numbers, numbers.copy())
    assert equal(numbers.reshape(2, 3), np.asfortranarray(numbers.reshape(2, 3)))
    assert not equal(numbers, numbers.reshape(2, 3))
    assert equal(numbers, numbers.astype(np.int32))
    assert not equal(numbers, (numbers + 1).astype(np.int32))
    assert not equal(np.zeros(1), -np.zeros(1))
    assert not equal(numbers, numbers + 1)
