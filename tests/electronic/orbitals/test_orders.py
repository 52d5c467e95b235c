"""Orders of other programs: exact round trips, and detection by the overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlff_calc.datasets import matrix_frames
from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.orbitals.orders import ORDERS, detect_order, from_our_order, to_our_order, to_pyscf_order
from mlff_calc.electronic.orbitals.rotation import orbital_rotation
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import OptionError, OrbitalError

OURS = {0: ["s"], 1: ["y", "z", "x"], 2: ["xy", "yz", "z2", "xz", "x2-y2"], 3: ["-3", "-2", "-1", "0", "1", "2", "3"]}
THEIRS = {
    "pyscf": {0: ["s"], 1: ["x", "y", "z"], 2: OURS[2], 3: OURS[3]},
    "orca": {0: ["s"], 1: ["z", "x", "y"], 2: ["z2", "xz", "yz", "x2-y2", "xy"], 3: ["0", "1", "-1", "2", "-2", "3", "-3"]},
}


@pytest.mark.parametrize("order", ["pyscf", "orca"])
def test_each_orbital_comes_to_its_place(order: str) -> None:
    basis = OrbitalBasis.of_shells("spdf", {1: (0, 1, 2, 3)})
    theirs = np.array([f"{degree}{name}" for degree in range(4) for name in THEIRS[order][degree]])
    ours = [f"{degree}{name}" for degree in range(4) for name in OURS[degree]]
    vector = np.arange(16.0)
    moved = to_our_order(vector, basis, [1], order, n_axes=1)
    assert theirs[np.abs(moved).astype(int)].tolist() == ours
    flipped = [ours[k] for k in np.flatnonzero(moved < 0)]
    assert flipped == (["3-3", "33"] if order == "orca" else [])


def test_files_name_the_same_orders() -> None:
    assert matrix_frames.ORDERS == ORDERS


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("n_axes", [1, 2])
def test_round_trips_are_exact(tzvp: OrbitalBasis, order: str, tensor: bool, n_axes: int) -> None:
    numbers = [1, 8, 1]
    n = tzvp.n_orbitals(numbers)
    values = np.random.default_rng(2).normal(size=(2, n, n))
    given = torch.from_numpy(values) if tensor else values
    there = from_our_order(given, tzvp, numbers, order, n_axes)
    again = to_our_order(there, tzvp, numbers, order, n_axes)
    assert np.array_equal(np.asarray(again), values)
    assert np.array_equal(np.asarray(there), values) == (order == "ours")
    other = from_our_order(to_our_order(given, tzvp, numbers, order, n_axes), tzvp, numbers, order, n_axes)
    assert np.array_equal(np.asarray(other), values)


def test_arrays_and_tensors_agree(tzvp: OrbitalBasis) -> None:
    numbers = [8, 1]
    values = np.random.default_rng(2).normal(size=(tzvp.n_orbitals(numbers),) * 2).astype(np.float32)
    array = to_our_order(values, tzvp, numbers, "orca")
    tensor = to_our_order(torch.from_numpy(values), tzvp, numbers, "orca")
    assert array.dtype == np.float32
    assert np.array_equal(array, tensor.numpy())
    assert np.array_equal(to_pyscf_order(values, tzvp, numbers), from_our_order(values, tzvp, numbers, "pyscf"))


def overlap(basis: OrbitalBasis, numbers: list[int]) -> np.ndarray:
    """A symmetric matrix without symmetry in space."""
    n = basis.n_orbitals(numbers)
    values = np.random.default_rng(7).normal(size=(n, n))
    return values + values.T


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_an_overlap_is_found(tzvp: OrbitalBasis, order: str) -> None:
    numbers = [8, 1, 1]
    ours = overlap(tzvp, numbers)
    noise = 1e-6 * np.random.default_rng(1).normal(size=ours.shape)
    layout = MatrixLayout(tzvp, numbers)
    assert detect_order(from_our_order(ours, tzvp, numbers, order) + noise, torch.from_numpy(ours), layout) == order


def test_only_the_sign_of_f_tells_orca_apart() -> None:
    basis = OrbitalBasis.of_shells("f", {1: (3,), 2: (0,)})
    ours = overlap(basis, [1, 2])
    wrong = to_our_order(ours, basis, [1, 2], "orca")
    wrong = np.abs(wrong)  # the order is right, the signs are not
    with pytest.raises(OrbitalError, match="fits no known order"):
        detect_order(from_our_order(wrong, basis, [1, 2], "orca") * 1.0, ours, MatrixLayout(basis, [1, 2]))


def test_orders_that_are_the_same_count_as_one() -> None:
    basis = OrbitalBasis.of_shells("s", {1: (0, 0)})
    assert detect_order(overlap(basis, [1, 1]), overlap(basis, [1, 1]), MatrixLayout(basis, [1, 1])) == "ours"


def test_an_overlap_that_cannot_tell_is_refused(svp: OrbitalBasis) -> None:
    with pytest.raises(OrbitalError, match="ours and pyscf and orca alike"):
        detect_order(np.eye(14), np.eye(14), MatrixLayout(svp, [8]))


@pytest.mark.parametrize("what", ["geometry", "atoms", "nan", "shape", "two"])
def test_other_matrices_are_refused(svp: OrbitalBasis, what: str) -> None:
    numbers = [8, 1, 1]
    ours = overlap(svp, numbers)
    layout = MatrixLayout(svp, numbers)
    given, words = ours.copy(), "fits no known order"
    if what == "geometry":
        given[3, 20] += 1e-3
        given[20, 3] += 1e-3
    elif what == "atoms":
        given = np.roll(ours, 5, axis=(0, 1))
    elif what == "nan":
        given[0, 0], words = np.nan, "not finite"
    elif what == "shape":
        given, words = ours[1:, 1:], "do not fit one molecule"
    else:
        layout, words = MatrixLayout(svp, numbers * 2, [0] * 3 + [1] * 3), "do not fit one molecule"
    with pytest.raises(OrbitalError, match=words):
        detect_order(given, ours, layout)


def test_unknown_orders_and_sizes_are_named(svp: OrbitalBasis) -> None:
    with pytest.raises(OptionError, match="'psi4'"):
        to_our_order(np.eye(14), svp, [8], "psi4")
    with pytest.raises(OrbitalError, match="14 orbitals"):
        to_our_order(np.eye(13), svp, [8])
    with pytest.raises(OptionError, match="n_axes is 3"):
        to_our_order(np.eye(14), svp, [8], n_axes=3)


@pytest.mark.electronic
def test_pyscf_overlap_is_found_in_its_order(tzvp: OrbitalBasis) -> None:
    gto = pytest.importorskip("pyscf.gto")
    molecule = gto.M(atom="O 0.1 0.2 0.3; H 0.9 0.4 -0.1; H -0.3 1.0 0.5", basis="def2-tzvp", verbose=0)
    theirs = molecule.intor("int1e_ovlp")
    numbers = [8, 1, 1]
    ours = to_our_order(theirs, tzvp, numbers)
    layout = MatrixLayout(tzvp, numbers)
    assert detect_order(theirs, ours, layout) == "pyscf"
    assert detect_order(from_our_order(ours, tzvp, numbers, "orca"), ours, layout) == "orca"
    labels = [label.split()[-1] for label in molecule.ao_labels()]
    kept = to_our_order(np.arange(float(len(labels))), tzvp, numbers, n_axes=1).astype(int)
    assert [labels[k] for k in kept][5:8] == ["2py", "2pz", "2px"]
    turn = orbital_rotation(np.eye(3), tzvp, numbers)
    assert torch.allclose(turn, torch.eye(len(labels), dtype=torch.float64), atol=1e-15)
