"""Pairs compared with ASE's list, which gets the user's cell and positions unchanged."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlff_calc.errors import OptionError, StructureError
from mlff_calc.graph import neighbor_pairs

HAS_VESIN = importlib.util.find_spec("vesin_torch") is not None
CUBE = 10.0 * np.eye(3)


@pytest.mark.parametrize("seed", range(10))
def test_random_cells_against_ase(seed, ase_pairs, sorted_pairs, random_cell):
    rng = np.random.default_rng(seed)
    n_pairs = 0
    for _ in range(250):
        cell = random_cell(rng, rng.uniform(1.0, 6.0))
        pbc = rng.random(3) < 0.5
        n_atoms = int(rng.integers(1, 12))
        positions = rng.uniform(-2.0, 3.0, size=(n_atoms, 3)) @ cell  # far outside the cell
        if rng.random() < 0.3:
            positions = np.round(positions @ np.linalg.inv(cell) * 2.0) / 2.0 @ cell  # on faces, edges, corners
        cutoff = rng.uniform(1.0, 5.0)
        expected = ase_pairs(positions, cell, pbc, cutoff)
        distances = np.linalg.norm(
            positions[expected[:, 1]] - positions[expected[:, 0]] + expected[:, 2:] @ np.where(pbc[:, None], cell, 0),
            axis=1,
        )
        if np.any(np.abs(distances - cutoff) < 1e-9):
            continue  # rounding decides whether a pair counts
        found = neighbor_pairs(positions, cell, pbc, cutoff, min_distance=0.0)
        assert np.all(np.diff(found.centers) >= 0)
        np.testing.assert_array_equal(sorted_pairs(*found), expected)
        n_pairs += len(expected)
    assert n_pairs > 1000


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    fractional=arrays(np.float64, st.tuples(st.integers(1, 5), st.just(3)), elements=st.floats(-3, 3, width=32)),
    lengths=arrays(np.float64, 3, elements=st.floats(1.5, 30.0, width=32)),
    shear=arrays(np.float64, 3, elements=st.floats(-0.75, 0.75, width=32)),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    cutoff=st.floats(1.0, 6.0),
)
def test_any_cell_against_ase(fractional, lengths, shear, pbc, cutoff, ase_pairs, sorted_pairs):
    cell = np.diag(lengths)
    cell[1, 0], cell[2, 0], cell[2, 1] = shear * lengths.min()
    positions = fractional @ cell
    wide = sorted_pairs(*neighbor_pairs(positions, cell, pbc, cutoff + 1e-7, min_distance=0.0))
    narrow = sorted_pairs(*neighbor_pairs(positions, cell, pbc, cutoff - 1e-7, min_distance=0.0))
    expected = {tuple(row) for row in ase_pairs(positions, cell, pbc, cutoff)}
    assert {tuple(row) for row in narrow} <= expected <= {tuple(row) for row in wide}


@pytest.mark.parametrize(
    "backend",
    ["ase", pytest.param("vesin", marks=pytest.mark.skipif(not HAS_VESIN, reason="vesin-torch is not installed"))],
)
def test_backends_agree(backend, sorted_pairs, random_cell):
    rng = np.random.default_rng(1)
    for _ in range(60):
        cell, pbc = random_cell(rng, 4.0), rng.random(3) < 0.5
        positions = rng.uniform(-1.0, 2.0, size=(6, 3)) @ cell
        first = neighbor_pairs(positions, cell, pbc, 4.0, min_distance=0.0)
        second = neighbor_pairs(positions, cell, pbc, 4.0, backend, min_distance=0.0)
        np.testing.assert_array_equal(sorted_pairs(*first), sorted_pairs(*second))


@pytest.mark.parametrize(
    "cell",
    [None, np.zeros((3, 3)), 0.1 * np.eye(3), np.ones((3, 3)), 1e3 * np.eye(3), [[1, 0, 0], [0, np.nan, 0], [0, 0, 0]]],
)
def test_without_periodicity_the_cell_does_not_matter(cell, sorted_pairs):
    positions = np.random.default_rng(3).uniform(-4.0, 9.0, size=(30, 3))
    expected = neighbor_pairs(positions, CUBE, False, 4.0, "ase")
    found = neighbor_pairs(positions, cell, False, 4.0)
    np.testing.assert_array_equal(sorted_pairs(*found), sorted_pairs(*expected))


@pytest.mark.parametrize("normal", [0.0, 0.2, 15.0])
def test_slab_with_any_vector_along_its_normal(normal, ase_pairs, sorted_pairs):
    positions = np.random.default_rng(4).uniform(0.0, 1.0, size=(20, 3)) * [8.0, 9.0, 5.0] - [30.0, 0.0, 7.0]
    cell = np.array([[8.0, 0.0, 0.0], [2.0, 9.0, 0.0], [0.0, 0.0, normal]])
    expected = ase_pairs(positions, cell + np.diag([0.0, 0.0, 40.0]), [True, True, False], 4.5)
    found = neighbor_pairs(positions, cell, [True, True, False], 4.5)
    np.testing.assert_array_equal(sorted_pairs(*found), expected)


def test_one_atom_sees_its_images():
    pairs = neighbor_pairs([[0.3, 0.1, -7.0]], 3.0 * np.eye(3), True, 3.5)
    assert len(pairs.centers) == 6
    assert np.all(pairs.centers == 0)
    assert np.all(np.abs(pairs.shifts).sum(axis=1) == 1)
    assert len(neighbor_pairs([[0.3, 0.1, -7.0]], 3.0 * np.eye(3), False, 3.5).centers) == 0
    only_z = neighbor_pairs([[0.3, 0.1, -7.0]], 3.0 * np.eye(3), [False, False, True], 3.5)
    np.testing.assert_array_equal(np.sort(only_z.shifts[:, 2]), [-1, 1])


def test_zero_atoms():
    for positions in (np.zeros((0, 3)), []):
        pairs = neighbor_pairs(positions, CUBE, True, 5.0)
        assert [array.shape for array in pairs] == [(0,), (0,), (0, 3)]


def test_wrapping_changes_no_vector():
    rng = np.random.default_rng(5)
    cell = np.array([[6.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.5, -2.0, 7.0]])
    inside = rng.uniform(size=(15, 3)) @ cell
    jumps = rng.integers(-4, 5, size=(15, 3))
    jumps[:, 1] = 0
    vectors = []
    for positions in (inside, inside + jumps @ cell):
        i, j, shifts = neighbor_pairs(positions, cell, [True, False, True], 4.0, min_distance=0.0)
        found = np.column_stack([i, j, np.round(positions[j] - positions[i] + shifts @ cell, 8) + 0.0])
        vectors.append(found[np.lexsort(found.T[::-1])])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-8)


def test_strides_and_types_do_not_matter(sorted_pairs):
    positions = np.random.default_rng(6).uniform(0.0, 10.0, size=(20, 3))
    wide = np.zeros((40, 6))
    wide[::2, ::2] = positions
    expected = sorted_pairs(*neighbor_pairs(positions, CUBE, True, 4.0))
    for view in (wide[::2, ::2], np.asfortranarray(positions), positions.tolist()):
        np.testing.assert_array_equal(sorted_pairs(*neighbor_pairs(view, np.asfortranarray(CUBE), True, 4.0)), expected)


@pytest.mark.parametrize("pbc", [False, True])
def test_far_fragments_cost_nothing_and_keep_their_pairs(pbc, sorted_pairs):
    near = np.random.default_rng(7).uniform(0.0, 6.0, size=(12, 3))
    far = np.concatenate([near, near + np.array([3e5, 1e5, -2e5])])
    expected = sorted_pairs(*neighbor_pairs(near, None, False, 3.0))
    again = expected.copy()
    again[:, :2] += len(near)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sorted_pairs(*neighbor_pairs(far, 1e6 * np.eye(3), pbc, 3.0))
    np.testing.assert_array_equal(found[:, :2], np.concatenate([expected, again])[:, :2])
    positions = far[found[:, 1]] - far[found[:, 0]] + found[:, 2:] * 1e6
    assert np.all(np.linalg.norm(positions, axis=1) < 3.0)


def test_thin_gas_in_a_huge_volume(ase_pairs, sorted_pairs):
    positions = np.random.default_rng(8).uniform(0.0, 4000.0, size=(400, 3))
    positions[1::2] = positions[::2] + 1.0
    found = neighbor_pairs(positions, None, False, 3.0)
    assert len(found.centers) == 400
    np.testing.assert_array_equal(found.centers // 2, found.neighbors // 2)


def test_cell_beyond_the_empty_layer_is_still_periodic():
    """Atoms close to opposite faces of the cell are neighbours."""
    positions = np.array([[0.2, 5.0, 5.0], [99.5, 5.0, 5.0]])
    pairs = neighbor_pairs(positions, np.diag([100.0, 50.0, 50.0]), True, 3.0)
    assert pairs.shifts.tolist() == [[-1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_positions_not_finite(bad):
    positions = np.array([[0.0, 0.0, 0.0], [2.0, bad, 0.0]])
    with pytest.raises(StructureError, match="atom 1 is not finite"):
        neighbor_pairs(positions, CUBE, True, 4.0)


def test_periodic_along_a_zero_vector():
    with pytest.raises(StructureError, match=r"c \(third\).*zero.*pbc\[2\] = False"):
        neighbor_pairs([[0.0, 0.0, 0.0]], np.diag([5.0, 5.0, 0.0]), True, 4.0)
    with pytest.raises(StructureError, match=r"a \(first\)"):
        neighbor_pairs([[0.0, 0.0, 0.0]], None, True, 4.0)
    with pytest.raises(StructureError, match="not finite"):
        neighbor_pairs([[0.0, 0.0, 0.0]], np.diag([5.0, 5.0, np.nan]), True, 4.0)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        ([[5, 0, 0], [0, 5, 0], [5, 5, 0]], [1, 1, 1]),
        ([[5, 0, 0], [10, 0, 0], [0, 0, 5]], [1, 1, 0]),
        ([[5, 0, 0], [0, 5, 0], [0, 5, 1e-4]], [1, 1, 1]),
    ],
)
def test_degenerate_cells(cell, pbc):
    with pytest.raises(StructureError, match="no volume"):
        neighbor_pairs([[0.0, 0.0, 0.0]], cell, pbc, 4.0)


def test_overlapping_atoms_are_named():
    positions = [[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [13.0, 0.01, 0.0]]
    with pytest.raises(StructureError, match=r"atoms 1 and 2 overlap: they are 0\.01 Angstrom"):
        neighbor_pairs(positions, CUBE, True, 4.0)
    neighbor_pairs(positions, CUBE, False, 4.0)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf])
def test_cutoff_out_of_range(cutoff):
    with pytest.raises(OptionError, match="positive"):
        neighbor_pairs([[0.0, 0.0, 0.0]], CUBE, True, cutoff)


def test_unknown_backend_names_the_nearest():
    with pytest.raises(OptionError, match="did you mean 'matscipy'"):
        neighbor_pairs([[0.0, 0.0, 0.0]], CUBE, True, 4.0, "matsipy")


@pytest.mark.skipif(HAS_VESIN, reason="vesin-torch is installed")
def test_a_missing_extra_gives_the_command_to_install_it():
    with pytest.raises(OptionError, match=r'pip install "mlff_calc\[gpu\]"'):
        neighbor_pairs([[0.0, 0.0, 0.0]], CUBE, True, 4.0, "vesin")


@pytest.mark.parametrize("shape", [(3,), (2, 2), (1, 3, 3)])
def test_wrong_shapes(shape):
    with pytest.raises(StructureError, match="shape"):
        neighbor_pairs(np.ones(shape), CUBE, True, 4.0)
