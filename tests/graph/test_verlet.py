from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from ase.build import bulk

from mlff_calc.errors import OptionError, StructureError
from mlff_calc.graph import NeighborList, neighbor_pairs
from mlff_calc.graph.order import distinct_rows, lexicographic

CUTOFF = 4.0


def edge_table(edge_index, edge_vec) -> np.ndarray:
    table = np.column_stack([edge_index.T, np.round(edge_vec, 7) + 0.0])
    return table[np.lexsort(table.T[::-1])]


def fresh_edges(positions, cell, pbc) -> np.ndarray:
    i, j, shifts = neighbor_pairs(positions, cell, pbc, CUTOFF, "ase", min_distance=0.0)
    vectors = positions[j] - positions[i] + shifts @ np.where(np.reshape(pbc, (-1, 1)), cell, 0.0)
    return edge_table(np.stack([i, j]), vectors)


def start(pbc, seed: int):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * 2.4
    cell = np.array([[7.2, 0.0, 0.0], [1.0, 7.2, 0.0], [-0.5, 0.8, 7.2]])
    return rng, grid @ cell / 7.2 + rng.normal(scale=0.1, size=(27, 3)) + 50.0 * np.array(pbc), cell


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("breathing", [False, True])
def test_reused_list_equals_a_fresh_one(pbc, breathing):
    rng, positions, cell = start(pbc, 1)
    neighbors = NeighborList(CUTOFF, skin=0.8)
    for step in range(60):
        drift = np.array([0.02, 0.0, 0.01])
        positions = positions + rng.normal(scale=0.015, size=positions.shape) + drift
        if breathing:
            strain = np.eye(3) + rng.normal(scale=0.002, size=(3, 3))
            center = positions.mean(axis=0)
            positions, cell = (positions - center) @ strain + center, cell @ strain
        if step == 40:
            positions[3] += 2 * cell[0] if pbc[0] else 0.0  # as if wrapped between two steps
        rebuilt = neighbors.update(positions, cell, pbc)
        assert rebuilt or step > 0
        found = edge_table(*neighbors.edges())
        expected = fresh_edges(positions, cell, pbc)
        np.testing.assert_array_equal(found[:, :2], expected[:, :2])
        np.testing.assert_allclose(found[:, 2:], expected[:, 2:], atol=2e-7)
    assert neighbors.n_updates == 60
    assert 1 < neighbors.n_rebuilds < 35


def test_one_step_of_large_strain_is_never_missed():
    """Compression moves atoms only with the cell, and still brings new pairs within the cutoff."""
    _, positions, cell = start((True, True, True), 2)
    for strain in (0.999, 0.99, 0.95, 0.9, 0.8, 1.05):
        neighbors = NeighborList(CUTOFF, skin=0.5)
        neighbors.update(positions, cell, True)
        rebuilt = neighbors.update(positions * strain, cell * strain, True)
        assert rebuilt == (CUTOFF / strain > CUTOFF + 0.5)
        found, expected = edge_table(*neighbors.edges()), fresh_edges(positions * strain, cell * strain, (True,) * 3)
        np.testing.assert_allclose(found, expected, atol=2e-7)


def test_half_the_skin_is_the_limit():
    _, positions, cell = start((True, True, True), 3)
    neighbors = NeighborList(CUTOFF, skin=0.5)
    assert neighbors.update(positions, cell, True)
    positions[5, 1] += 0.249
    assert not neighbors.update(positions, cell, True)
    positions[5, 1] += 0.002
    assert neighbors.update(positions, cell, True)
    assert (neighbors.n_updates, neighbors.n_rebuilds) == (3, 2)


def test_count_order_and_periodicity_rebuild():
    _, positions, cell = start((True, True, True), 4)
    neighbors = NeighborList(CUTOFF)
    ids = np.array([1, 8] * 13 + [6])
    assert neighbors.update(positions, cell, True, ids)
    assert not neighbors.update(positions, cell, True, ids)
    assert neighbors.update(positions, cell, True, ids[::-1])
    assert neighbors.update(positions, cell, [True, True, False], ids[::-1])
    assert neighbors.update(positions[:-1], cell, [True, True, False], ids[:-1])
    neighbors.reset()
    assert neighbors.update(positions[:-1], cell, [True, True, False], ids[:-1])
    assert neighbors.n_rebuilds == 5


def test_without_skin_any_motion_rebuilds():
    _, positions, cell = start((True, True, True), 5)
    neighbors = NeighborList(CUTOFF, skin=0.0)
    neighbors.update(positions, cell, True)
    assert not neighbors.update(positions, cell, True)
    assert neighbors.update(positions + np.array([1e-9, 0.0, 0.0]), cell, True)


def test_the_callers_arrays_are_not_held():
    _, positions, cell = start((True, True, True), 6)
    neighbors = NeighborList(CUTOFF)
    neighbors.update(positions, cell, True)
    before = neighbors.edges()[1].copy()
    positions += 1.0
    positions[0] += 0.3
    cell *= 1.1
    np.testing.assert_array_equal(neighbors.edges()[1], before)
    assert neighbors.update(positions, cell / 1.1, True)


def test_copies_and_pickles_are_independent():
    _, positions, cell = start((True, True, True), 7)
    neighbors = NeighborList(CUTOFF)
    neighbors.update(positions, cell, True)
    for twin in (copy.deepcopy(neighbors), pickle.loads(pickle.dumps(neighbors))):
        assert not twin.update(positions, cell, True)
        np.testing.assert_array_equal(twin.edges()[1], neighbors.edges()[1])
        twin.update(positions + 3.0 * np.arange(27)[:, None], cell, True)
    assert neighbors.n_updates == 1
    assert not neighbors.update(positions, cell, True)


def test_a_failed_update_leaves_nothing_to_read():
    _, positions, cell = start((True, True, True), 8)
    neighbors = NeighborList(CUTOFF)
    with pytest.raises(OptionError, match="call update"):
        neighbors.edges()
    neighbors.update(positions, cell, True)
    broken = positions.copy()
    broken[2, 0] = np.nan
    with pytest.raises(StructureError, match="atom 2"):
        neighbors.update(broken, cell, True)
    with pytest.raises(OptionError, match="call update"):
        neighbors.edges()
    assert neighbors.update(positions, cell, True)


def test_overlap_between_rebuilds_is_seen():
    neighbors = NeighborList(CUTOFF, skin=4.0)
    neighbors.update([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], None, False)
    assert not neighbors.update([[0.0, 0.0, 0.0], [0.05, 0.0, 0.0]], None, False)
    with pytest.raises(StructureError, match="atoms 0 and 1 overlap"):
        neighbors.edges()


def test_cell_that_collapses_is_refused():
    atoms = bulk("Si", cubic=True)
    neighbors = NeighborList(CUTOFF)
    neighbors.update(atoms.positions, atoms.cell.array, True)
    flat = atoms.cell.array.copy()
    flat[2] = 0.0
    with pytest.raises(StructureError, match="zero"):
        neighbors.update(atoms.positions, flat, True)


@pytest.mark.parametrize("skin", [-0.1, np.nan, np.inf])
def test_skin_out_of_range(skin):
    with pytest.raises(OptionError, match="skin"):
        NeighborList(CUTOFF, skin=skin)


def test_edges_are_sorted_contiguous_and_within_the_cutoff(device):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    neighbors = NeighborList(CUTOFF, device=device)
    neighbors.update(atoms.positions, atoms.cell.array, atoms.pbc)
    index, vectors = neighbors.edges()
    assert index.dtype == np.int64
    assert vectors.dtype == np.float64
    assert index.flags.c_contiguous
    assert np.all(np.diff(index[0]) >= 0)
    assert np.linalg.norm(vectors, axis=1).max() < CUTOFF
    on_device = neighbors.edge_tensors()
    assert all(tensor.device.type == device.type for tensor in on_device)
    np.testing.assert_array_equal(on_device[0].cpu().numpy(), index)
    np.testing.assert_allclose(on_device[1].cpu().numpy(), vectors, atol=1e-12)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("breathing", [False, True])
def test_edges_do_not_depend_on_when_the_list_was_built(pbc, breathing):
    """New lists with or without a skin and reused lists give the same edges, bit by bit."""
    rng, positions, cell = start(pbc, 9)
    reused = NeighborList(CUTOFF, skin=0.8)
    for step in range(50):
        positions = positions + rng.normal(scale=0.03, size=positions.shape)
        if breathing:
            strain = np.eye(3) + rng.normal(scale=0.002, size=(3, 3))
            positions, cell = positions @ strain, cell @ strain
        if step in {20, 35} and pbc[0]:
            positions[step % 27] -= 3 * cell[0]
        reused.update(positions, cell, pbc)
        index, vectors = reused.edges()
        for skin in (0.0, 0.37):
            fresh = NeighborList(CUTOFF, skin=skin)
            fresh.update(positions, cell, pbc)
            fresh_index, fresh_vectors = fresh.edges()
            np.testing.assert_array_equal(index, fresh_index)
            assert vectors.tobytes() == fresh_vectors.tobytes()
    assert 1 < reused.n_rebuilds < 35


@pytest.mark.parametrize("backend", ["matscipy", "ase"])
def test_pairs_are_sorted_by_centre_neighbour_and_shift(backend):
    _, positions, cell = start((True, True, True), 10)
    positions[::4] += 5 * cell[1]
    pairs = neighbor_pairs(positions[:9], 0.6 * cell, True, CUTOFF, backend, min_distance=0.0)
    table = np.column_stack(pairs)
    np.testing.assert_array_equal(table, table[np.lexsort(table.T[::-1])])
    assert len(np.unique(table[:, :2], axis=0)) < len(table)  # neighbours have several images


def test_orders_of_rows_too_wide_for_one_number():
    rows = np.array([[2**40, -(2**40), 3], [2**40, -(2**40), -3], [-(2**40), 2**40, 0], [2**40, -(2**40), 3]])
    order = lexicographic([*rows[:3].T])
    np.testing.assert_array_equal(order, [2, 1, 0])
    for table in (rows, rows // 2**40, rows[:0]):
        distinct, which = distinct_rows(table)
        np.testing.assert_array_equal(distinct[which], table)
        assert len(distinct) == len(np.unique(table, axis=0))
