"""Predicted matrices follow the molecule: rotations, reflections, permutations, smoothness, batches, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from mlff_calc.electronic.hamiltonian import HamiltonianNetwork, build_hamiltonian, load_hamiltonian
from mlff_calc.electronic.hamiltonian.keys import FOCK_ATOMS, FOCK_PAIRS
from mlff_calc.electronic.hamiltonian.predict import matrix_graph, predict_fock
from mlff_calc.errors import OptionError, PotentialFileError, RecipeError, StructureError, UnknownElementError

from .turning import of_shells, random_turn

BASIS = {"name": "def2-svp", "shells": {1: [0, 0, 1], 6: [0, 0, 0, 1, 1, 2], 8: [0, 0, 0, 1, 1, 2]}}
SMALL: dict[str, Any] = {
    "basis": BASIS, "target": "means", "channels": 4, "hidden": 6, "products": 3, "layers": 2, "scalars": 8, "n_basis": 6,
    "cutoff": 3.0, "pair_cutoff": 6.0, "avg_num_neighbors": 4.0,
}  # fmt: skip


def _network(**options: Any) -> HamiltonianNetwork:  # noqa: ANN401
    return build_hamiltonian(SMALL | options, seed=1).to_precision("float64")


def _orbital_turn(network: HamiltonianNetwork, atoms: Atoms, turn: torch.Tensor) -> np.ndarray:
    return torch.block_diag(*[of_shells(turn, list(network.basis.shells_of(int(z)))) for z in atoms.numbers]).numpy()


def _random_molecule() -> Atoms:
    rng = np.random.default_rng(3)
    places = np.array([[0, 0, 0], [1.4, 0, 0], [2, 1, 0], [-0.5, -0.8, 0.3], [1.9, -0.7, 0.8]])
    return Atoms("OCH3", positions=places + 0.1 * rng.normal(size=(5, 3)))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("options", [{}, {"products": 0}, {"product_target": "pairs", "l_max": 3}])
def test_matrices_turn_with_the_molecule(options: dict[str, Any], mirrored: bool) -> None:
    network, atoms = _network(**options), _random_molecule()
    turn = random_turn(5, mirrored=mirrored)
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.numpy().T
    before, after = predict_fock(network, [atoms, turned])
    orbital = _orbital_turn(network, atoms, turn)
    assert np.abs(after - orbital @ before @ orbital.T).max() < 1e-10
    assert np.abs(after - before).max() > 1e-2
    assert np.array_equal(before, before.T)


@pytest.mark.parametrize("mirrored", [False, True])
def test_matrices_that_are_read_turn_as_well(mirrored: bool) -> None:
    network, atoms = _network(inputs=["overlap", "initial"], target="initial"), _random_molecule()
    turn = random_turn(6, mirrored=mirrored)
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.numpy().T
    orbital = _orbital_turn(network, atoms, turn)
    rng = np.random.default_rng(0)
    given = []
    for _ in range(2):
        one = rng.normal(size=orbital.shape)
        given.append([one + one.T, orbital @ (one + one.T) @ orbital.T])
    before, after = predict_fock(network, [atoms, turned], overlaps=given[0], initials=given[1])
    assert np.abs(after - orbital @ before @ orbital.T).max() < 1e-10
    other = predict_fock(network, [atoms], overlaps=[given[0][0] * 0.9], initials=[given[1][0]])[0]
    assert np.abs(other - before).max() > 1e-3


def test_atoms_may_be_permuted() -> None:
    network, atoms = _network(), _random_molecule()
    order = [3, 0, 4, 2, 1]
    before, after = predict_fock(network, [atoms, atoms[order]])
    counts = network.basis.orbitals_by_atom(atoms.numbers)
    starts = np.cumsum(counts) - counts
    orbitals = np.concatenate([starts[k] + np.arange(counts[k]) for k in order])
    assert np.abs(after - before[np.ix_(orbitals, orbitals)]).max() < 1e-10


def test_nothing_jumps_where_the_nearest_neighbour_changes() -> None:
    network = _network()
    frames = []
    for step in np.linspace(-2e-3, 2e-3, 9):  # the hydrogens of water change places as the nearest one at 0
        atoms = Atoms("OH2", positions=[[0, 0, 0], [0.96 + step, 0, 0], [-0.24, 0.93, 0]])
        atoms.positions[2] *= (0.96 - step) / np.linalg.norm(atoms.positions[2])
        frames.append(atoms)
    focks = np.stack(predict_fock(network, frames))
    first, second = np.diff(focks, axis=0), np.diff(focks, n=2, axis=0)
    assert np.abs(first).max() > 1e-5
    assert np.abs(second).max() < 1e-2 * np.abs(first).max()


@pytest.mark.parametrize("name", ["CH4", "C6H6", "H2O"])
def test_symmetric_molecules_are_like_all_others(name: str) -> None:
    network, atoms = _network(), molecule(name)
    fock = predict_fock(network, [atoms])[0]
    rng = np.random.default_rng(0)
    moved = atoms.copy()
    moved.positions += 1e-7 * rng.normal(size=moved.positions.shape)
    assert np.isfinite(fock).all()
    assert np.abs(predict_fock(network, [moved])[0] - fock).max() < 1e-4
    graph, _ = matrix_graph(network, [atoms])
    vectors = graph["edge_vec"].requires_grad_()
    out = network(graph)
    (gradient,) = torch.autograd.grad(out[FOCK_ATOMS].square().sum() + out[FOCK_PAIRS].square().sum(), vectors)
    assert torch.isfinite(gradient).all()


def test_methane_has_the_symmetry_of_a_tetrahedron() -> None:
    """Its p orbitals are degenerate, and a turn that exchanges hydrogens exchanges their blocks."""
    network, atoms = _network(), molecule("CH4")
    fock = predict_fock(network, [atoms])[0]
    block = fock[3:6, 3:6]  # the first p shell of carbon
    assert np.abs(block - block[0, 0] * np.eye(3)).max() < 1e-10


def test_batches_of_different_molecules_are_like_single_ones() -> None:
    network = _network()
    molecules = [molecule(name) for name in ("H2O", "CH4", "CH3OH", "H", "CO")]
    together = predict_fock(network, molecules)
    for atoms, fock in zip(molecules, together, strict=True):
        assert np.abs(predict_fock(network, [atoms])[0] - fock).max() < 1e-10


def test_blocks_of_pairs_fade_out() -> None:
    network = _network()
    far = [Atoms("OC", positions=[[0, 0, 0], [0, 0, distance]]) for distance in (3.0, 5.9, 5.999, 6.001)]
    sizes = [np.abs(one[:14, 14:]).max() for one in predict_fock(network, far)]
    assert sizes[0] > 1e-2 > sizes[1] > sizes[2] > sizes[3] == 0.0


def test_masks_are_those_of_the_layout() -> None:
    network = _network()
    graph, layout = matrix_graph(network, [_random_molecule(), molecule("H2O")])
    masks = network.masks(*network.species_of(graph))
    assert torch.equal(masks[0], layout.diagonal_mask)
    assert torch.equal(masks[1], layout.pair_mask)


def test_networks_are_saved_and_loaded(tmp_path: Path) -> None:
    network = build_hamiltonian(SMALL | {"flow": {"prior": "goe"}}, seed=2)
    network.scales.atom_means.normal_()
    network.save(tmp_path / "model")
    loaded = load_hamiltonian(tmp_path / "model")
    assert loaded.sha256 == network.sha256
    atoms = _random_molecule()
    assert np.array_equal(predict_fock(loaded, [atoms])[0], predict_fock(network, [atoms])[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"basis": {"shells": {}}}, "basis of a network"),
        ({"basis": {"name": "x", "shells": {1: [0, 5]}}}, "end at f"),
        ({"target": "fock"}, "initial or means"),
        ({"inputs": ["density"]}, "overlap, initial"),
        ({"pair_cutoff": 2.0}, "raise it"),
        ({"l_max": 1}, "give at least 2, or 4"),
        ({"layers": 0}, "at least 1"),
        ({"channel": 3}, "channels"),
        ({"flow": {"prior": "normal"}}, "goe or expansion"),
        ({"flow": {"steps": 2}}, "prior"),
    ],
)
def test_configurations_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build_hamiltonian(SMALL | options)


def test_molecules_that_do_not_fit_are_refused() -> None:
    network = _network(target="initial")
    with pytest.raises(OptionError, match="needs the initial matrix"):
        predict_fock(network, [molecule("H2O")])
    with pytest.raises(OptionError, match="has 24 orbitals"):
        predict_fock(network, [molecule("H2O")], initials=[np.eye(23)])
    network = _network()
    with pytest.raises(UnknownElementError, match=r"\[7\]"):
        predict_fock(network, [molecule("NH3")])
    with pytest.raises(StructureError, match="periodic"):
        predict_fock(network, [Atoms("H", cell=[5, 5, 5], pbc=True)])


def test_other_networks_are_refused(tmp_path: Path) -> None:
    from mlff_calc.propagator import Propagator

    build_hamiltonian(SMALL, seed=0).save(tmp_path / "model")
    from mlff_calc.networks.files import check_kind

    with pytest.raises(PotentialFileError, match="load_hamiltonian"):
        check_kind(tmp_path / "model", Propagator.kind)
