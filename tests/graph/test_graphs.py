"""Keys, graphs from atoms, batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from mlff_calc.errors import OptionError, StructureError
from mlff_calc.graph import (
    KEYS,
    LEVELS,
    Key,
    NeighborList,
    collate,
    declare,
    graph_from_arrays,
    graph_from_atoms,
    register_key,
    register_level,
    split,
    to_device,
    validate_graph,
)
from mlff_calc.graph.keys import level_counts

STRUCTURES = [
    molecule("CH3CH2OH"),
    bulk("Si"),
    fcc111("Cu", (2, 2, 2), vacuum=8.0),
    Atoms("He"),
    Atoms(),
    Atoms("Ar", cell=[3.0, 3.0, 3.0], pbc=True),
]


@pytest.mark.parametrize("atoms", STRUCTURES, ids=str)
def test_graphs_follow_the_contract_and_leave_atoms_alone(atoms):
    before = atoms.copy()
    graph = graph_from_atoms(atoms, 5.0)
    validate_graph(graph)
    assert atoms == before
    assert graph["positions"].data_ptr() != atoms.positions.ctypes.data or len(atoms) == 0
    np.testing.assert_array_equal(graph["cell"][0].numpy(), atoms.cell.array)
    np.testing.assert_array_equal(graph["pbc"][0].numpy(), atoms.pbc)
    np.testing.assert_array_equal(graph["atomic_numbers"].numpy(), atoms.numbers)
    i, j = graph["edge_index"]
    vectors = graph["positions"][j] - graph["positions"][i]
    if not atoms.pbc.any():
        torch.testing.assert_close(graph["edge_vec"], vectors)
        assert len(i) == len(atoms) * (len(atoms) - 1)


def test_a_list_is_reused_and_must_fit():
    atoms = bulk("Si", cubic=True)
    neighbors = NeighborList(5.0)
    for step in range(3):
        atoms.positions += 0.01
        graph = graph_from_atoms(atoms, 5.0, neighbors)
        torch.testing.assert_close(
            graph["edge_vec"].norm(dim=1).min(), torch.tensor(5.43 * 3**0.5 / 4, dtype=torch.float64)
        )
        assert neighbors.n_updates == step + 1
    assert neighbors.n_rebuilds == 1
    with pytest.raises(OptionError, match=r"5\.0 Angstrom, the graph needs 6\.0"):
        graph_from_atoms(atoms, 6.0, neighbors)


def test_swapped_species_rebuild():
    atoms = molecule("H2O")
    neighbors = NeighborList(5.0)
    graph_from_atoms(atoms, 5.0, neighbors)
    atoms.numbers = atoms.numbers[::-1]
    graph_from_atoms(atoms, 5.0, neighbors)
    assert neighbors.n_rebuilds == 2


def test_numbers_and_positions_must_match():
    with pytest.raises(StructureError, match="3 atomic numbers but 2 positions"):
        graph_from_arrays([1, 1, 8], np.zeros((2, 3)), None, False, 5.0)


def test_batch_and_back():
    graphs = [graph_from_atoms(atoms, 5.0) for atoms in STRUCTURES]
    batch = collate(graphs)
    validate_graph(batch)
    assert batch["cell"].shape[0] == len(STRUCTURES)
    assert torch.bincount(batch["system_index"], minlength=len(STRUCTURES)).tolist() == [len(a) for a in STRUCTURES]
    twice = collate([batch, batch])
    validate_graph(twice)
    for before, after in zip(graphs * 2, split(twice), strict=True):
        validate_graph(after)
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            torch.testing.assert_close(after[name], tensor, rtol=0.0, atol=0.0)


def test_missing_labels_become_nan():
    first, second = (graph_from_atoms(atoms, 5.0) for atoms in STRUCTURES[:2])
    first["energy"] = torch.tensor([-3.0], dtype=torch.float64)
    first["forces"] = torch.ones(9, 3, dtype=torch.float64)
    second["stress"] = torch.ones(1, 3, 3, dtype=torch.float64)
    batch = collate([first, second])
    validate_graph(batch)
    assert batch["energy"][0] == -3.0
    assert batch["energy"].isnan().tolist() == [False, True]
    assert batch["forces"].isnan().any(dim=1).tolist() == [False] * 9 + [True] * 2
    assert batch["stress"].isnan().all(dim=(1, 2)).tolist() == [True, False]


def test_a_registered_key_is_batched_by_its_level():
    key = register_key(Key("test_bond_atoms", "edge", (), torch.int64, "", "an atom per edge", points_to="atom"))
    try:
        graphs = [graph_from_atoms(molecule("H2O"), 5.0), graph_from_atoms(molecule("CH4"), 5.0)]
        for graph in graphs:
            graph[key.name] = graph["edge_index"][1].clone()
        batch = collate(graphs)
        assert torch.equal(batch[key.name], batch["edge_index"][1])
        assert register_key(key) is key
        with pytest.raises(OptionError, match="already registered"):
            register_key(Key("test_bond_atoms", "atom", (), torch.int64, "", "something else"))
        del graphs[1][key.name]
        with pytest.raises(StructureError, match="test_bond_atoms"):
            collate(graphs)
    finally:
        del KEYS["test_bond_atoms"]


def test_a_registered_level_is_counted_batched_and_split():
    """The level counts pairs of atoms, as in a matrix. A pair belongs to the system of its first atom."""
    index = declare("test_pair_index", "test_pair", (2,), torch.int64, "", "two atoms", axis=1, points_to="atom")
    values = declare("test_pair_values", "test_pair", (3,), torch.float64, "", "a number each")
    try:
        register_level("test_pair", index, owner=index)
        assert register_level("test_pair", index, owner=index) == "test_pair"
        with pytest.raises(OptionError, match="level 'test_pair' is already registered"):
            register_level("test_pair", values)
        graphs = [graph_from_atoms(molecule(name), 5.0) for name in ("H2O", "CH4")]
        assert level_counts(graphs[0])["test_pair"] == 0
        for graph in graphs:
            n = len(graph["atomic_numbers"])
            graph[index] = torch.triu_indices(n, n, 1)
            graph[values] = torch.rand(n * (n - 1) // 2, 3, dtype=torch.float64)
        batch = collate(graphs)
        validate_graph(batch)
        assert level_counts(batch)["test_pair"] == 3 + 10
        assert batch[index][:, 3:].min() == 3
        for before, after in zip(graphs, split(batch), strict=True):
            assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        batch[values] = batch[values][1:]
        with pytest.raises(StructureError, match=r"test_pair_values.*expected \[13, 3\]"):
            validate_graph(batch)
    finally:
        del KEYS[index], KEYS[values], LEVELS["test_pair"]


def test_keys_of_a_whole_graph_are_not_allowed_in_batches():
    graph = graph_from_atoms(molecule("H2O"), 5.0) | {"ridges": torch.zeros(2, dtype=torch.float64)}
    validate_graph(graph)
    for make in (lambda: collate([graph, graph]), lambda: split(graph)):
        with pytest.raises(StructureError, match="'ridges' belongs to one graph as a whole"):
            make()
    with pytest.raises(StructureError, match=r"ridges.*expected \[2\]"):
        validate_graph(graph | {"ridges": torch.zeros(3, dtype=torch.float64)})


def test_an_empty_batch_is_refused():
    with pytest.raises(OptionError, match="no graphs"):
        collate([])


def test_to_device(device):
    graph = to_device(graph_from_atoms(molecule("H2O"), 5.0), device)
    assert {tensor.device.type for tensor in graph.values()} == {device.type}
    validate_graph(graph)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("edge_vec", lambda t: None, "lacks.*edge_vec"),
        ("positions", lambda t: t.float(), "positions.*float32.*float64"),
        ("positions", lambda t: t[:-1], r"positions.*\[2, 3\]|positions.*\(2, 3\), expected \[3, 3\]"),
        ("cell", lambda t: t[0], "cell.*expected 3 dimensions"),
        ("pbc", lambda t: t.numpy(), "pbc.*ndarray"),
        ("edge_index", lambda t: t + 1, "edge_index.*from 1 to 3.*3 atoms"),
        ("edge_index", lambda t: t.flip(1), "not sorted by centre"),
        ("system_index", lambda t: t - 1, "system_index.*1 systems"),
        ("force", lambda t: torch.zeros(3, 3), "unknown key 'force': did you mean 'forces'"),
    ],
)
def test_wrong_graphs_are_refused(name, change, message):
    graph = graph_from_atoms(molecule("H2O"), 5.0)
    changed = change(graph.get(name))
    if changed is None:
        del graph[name]
    else:
        graph[name] = changed
    with pytest.raises(StructureError, match=message):
        validate_graph(graph)
