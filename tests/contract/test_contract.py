"""The contract of backbones: symmetry, smoothness, gradients, batches, size extensivity, files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from mlff_calc.graph import graph_from_atoms
from mlff_calc.potential import Potential, evaluate_atoms, load_potential

from .conftest import crystal, ethanol, make_potential, slab


def evaluate(potential: Potential, *structures: Atoms) -> dict[str, np.ndarray]:
    return evaluate_atoms(potential, structures)


def graph_of(atoms: Atoms, potential: Potential) -> dict[str, torch.Tensor]:
    """Return the graph on the device of the potential."""
    return graph_from_atoms(atoms, potential.cutoff, device=potential.species_of.device)


def orthogonal(seed: int, improper: bool) -> np.ndarray:
    matrix = Rotation.random(random_state=seed).as_matrix()
    return -matrix if improper else matrix


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "rotoinversion"])
def test_equivariance(potential: Potential, atoms: Atoms, improper: bool) -> None:
    turn = orthogonal(11, improper)
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ turn.T)
    turned.positions = atoms.positions @ turn.T
    before, after = evaluate(potential, atoms), evaluate(potential, turned)
    np.testing.assert_allclose(after["energy"], before["energy"], atol=1e-10)
    np.testing.assert_allclose(after["forces"], before["forces"] @ turn.T, atol=1e-10)
    np.testing.assert_allclose(after["virial"], turn @ before["virial"] @ turn.T, atol=1e-10)
    assert np.abs(before["forces"]).max() > 1e-3


def test_features_turn_with_the_structure(potential: Potential) -> None:
    from e3nn import o3

    atoms, turn = ethanol(), orthogonal(2, improper=True)
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.T
    features = []
    potential.backbone.limit_outputs(potential.backbone.l_max)
    for structure in (atoms, turned):
        graph = graph_of(structure, potential)
        graph["species"] = potential.species_of[graph["atomic_numbers"]]
        features.append(potential.backbone(graph)["node_features"].detach().cpu())
    potential.backbone.limit_outputs(max(head.degree for head in potential.heads.values()))
    points = torch.tensor(np.random.default_rng(1).normal(size=(200, 3)))
    harmonics = [
        o3.spherical_harmonics(list(range(potential.backbone.l_max + 1)), x, normalize=True)
        for x in (points, points @ torch.tensor(turn.T))
    ]
    wigner = torch.linalg.lstsq(harmonics[0], harmonics[1]).solution.T
    np.testing.assert_allclose(torch.einsum("mn,anc->amc", wigner, features[0]), features[1], atol=1e-10)


def test_permutation(potential: Potential, atoms: Atoms) -> None:
    order = np.random.default_rng(0).permutation(len(atoms))
    before, after = evaluate(potential, atoms), evaluate(potential, atoms[order])
    np.testing.assert_allclose(after["energy"], before["energy"], atol=1e-10)
    np.testing.assert_allclose(after["forces"], before["forces"][order], atol=1e-10)


def test_translation_and_wrapping(potential: Potential, atoms: Atoms) -> None:
    moved = atoms.copy()
    moved.positions += [13.1, -7.2, 4.4]
    moved.positions += (np.random.default_rng(0).integers(-3, 4, size=(len(atoms), 3)) * atoms.pbc) @ atoms.cell.array
    before, after = evaluate(potential, atoms), evaluate(potential, moved)
    np.testing.assert_allclose(after["energy"], before["energy"], atol=1e-10)
    np.testing.assert_allclose(after["forces"], before["forces"], atol=1e-10)


def test_forces_are_the_gradient(potential: Potential, atoms: Atoms) -> None:
    forces, step = evaluate(potential, atoms)["forces"], 1e-4
    generator = np.random.default_rng(5)
    for _ in range(3):
        direction = generator.normal(size=forces.shape)
        slope = directional_derivative(potential, atoms, direction, None, step)
        expected = -np.sum(forces * direction)
        assert slope == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_stress_is_the_strain_derivative(potential: Potential) -> None:
    atoms = crystal()
    out = evaluate(potential, atoms)
    stress = out["stress"][0]
    np.testing.assert_allclose(stress, stress.T, atol=1e-10)
    np.testing.assert_allclose(stress, -out["virial"][0] / atoms.get_volume(), atol=1e-12)
    np.testing.assert_allclose(out["atomic_virial"].sum(axis=0), out["virial"][0], atol=1e-10)
    generator = np.random.default_rng(6)
    for _ in range(3):
        strain = generator.normal(size=(3, 3))
        strain = (strain + strain.T) / 2.0
        slope = directional_derivative(potential, atoms, None, strain, 1e-4)
        assert slope == pytest.approx(np.sum(stress * strain) * atoms.get_volume(), rel=1e-6, abs=1e-7)


def directional_derivative(
    potential: Potential, atoms: Atoms, direction: np.ndarray | None, strain: np.ndarray | None, step: float
) -> float:
    """Return a central difference of fourth order of the energy along displacements or a strain."""
    images = []
    for factor in (-2, -1, 1, 2):
        image = atoms.copy()
        if direction is not None:
            image.positions += factor * step * direction
        if strain is not None:
            image.set_cell(atoms.cell.array @ (np.eye(3) + factor * step * strain), scale_atoms=True)
        images.append(image)
    energy = evaluate(potential, *images)["energy"]
    return (energy[0] - 8 * energy[1] + 8 * energy[2] - energy[3]) / (12 * step)


def test_smooth_as_an_atom_crosses_the_cutoff(potential: Potential) -> None:
    """Energy and force of a pair near a molecule converge to those without the edge of the pair."""
    for companion in (Atoms(), molecule("H2O")):
        companion.positions += [0.0, 30.0, 0.0]
        values = []
        for distance in potential.cutoff + np.array([-1e-2, -1e-3, -1e-4, 1e-4]):
            pair = Atoms("CO", positions=[[0, 0, 0], [distance, 0, 0]]) + companion
            out = evaluate(potential, pair)
            values.append((out["energy"][0], np.abs(out["forces"][:2]).max()))
        energy, force = np.array(values).T
        assert abs(energy[2] - energy[3]) < 1e-8
        assert force[3] == 0.0
        assert force[2] < 1e-5
        assert force[1] < force[0]


def test_only_neighbor_fades_out(potential: Potential) -> None:
    """The energy of a pair changes continuously when a third atom enters its cutoff, from either side."""
    energies = []
    for distance in potential.cutoff + np.array([-1e-4, 1e-4]):
        atoms = Atoms("OHC", positions=[[0, 0, 0], [0.97, 0, 0], [0, distance, 0]])
        energies.append(evaluate(potential, atoms)["energy"][0])
    assert abs(energies[0] - energies[1]) < 1e-8


def test_depth(potential: Potential) -> None:
    """The energy of the first atom of a chain knows as many neighbours, one after another, as `depth` says."""
    if potential.backbone.is_fixed_point:
        pytest.skip("a fixed point reaches through all atoms")
    known, spacing = [], 0.75 * potential.cutoff
    for far in (potential.depth, potential.depth + 1):
        chain = Atoms(f"HC{far}", positions=[[spacing * k, 0.1 * k * k, 0.0] for k in range(far + 1)])
        other = chain.copy()
        other.symbols[far] = "Si"
        known.append(len({float(evaluate(potential, atoms)["energies"][0]) for atoms in (chain, other)}) == 2)
    assert known == [True, False]


@pytest.mark.parametrize("symbol", ["H", "Si"])
def test_all_forces_are_smooth_as_an_atom_joins_a_molecule(potential: Potential, symbol: str) -> None:
    """The atom crosses the cutoff of one atom of a molecule while it is already a neighbour of others."""
    host, toward = ethanol(), np.array([-2.0, 1.0, 4.5]) / np.linalg.norm([-2.0, 1.0, 4.5])
    center, out = host.positions[5], []
    for shift in (-1e-4, 1e-4, 3e-4, 5e-4):
        atoms = host + Atoms(symbol, positions=[center + (potential.cutoff + shift) * toward])
        lengths = np.delete(atoms.get_distances(len(host), range(len(host))), 5)
        assert lengths.min() > 2.0
        assert np.sum(lengths < potential.cutoff - 0.1) >= 2
        assert np.abs(lengths - potential.cutoff).min() > 0.01
        out.append(evaluate(potential, atoms))
    for key, small in (("energy", 1e-7), ("forces", 1e-6)):
        bends = np.diff([one[key] for one in out], 2, axis=0)  # of a step at the cutoff, only the first has any
        np.testing.assert_allclose(*bends, rtol=0, atol=small, err_msg=f"a step in {key} at the cutoff")
    assert np.abs(out[1]["forces"][-1]).max() > 1e-2


@pytest.mark.parametrize("where", [[1.0, 0.0, 0.2], [-0.3, 0.0, -0.9], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
def test_edges_cross_from_one_frame_to_the_other(potential: Potential, where: list[float]) -> None:
    """Frames of edges change their chart at the plane y = 0, which must have no effect on results."""
    bond = 1.1 * np.array(where) / np.linalg.norm(where)
    below, on, above = (
        evaluate(potential, Atoms("OHC", positions=[[0, 0, 0], np.add(bond, [0, height, 0]), [0.2, 1.3, 0.5]]))
        for height in (-1e-6, 0.0, 1e-6)
    )
    for key in ("energy", "forces"):
        assert np.abs(above[key] - below[key]).max() > 1e-9  # the structure has changed
        np.testing.assert_allclose(above[key] - on[key], on[key] - below[key], rtol=0, atol=1e-9)


@pytest.mark.parametrize("axis", np.concatenate([np.eye(3), -np.eye(3)]).tolist())
def test_edges_along_axes(potential: Potential, axis: list[float]) -> None:
    atoms = Atoms("COH", positions=[[0, 0, 0], 1.2 * np.array(axis), -1.1 * np.array(axis)])
    turned = atoms.copy()
    turn = orthogonal(1, improper=False)
    turned.positions = atoms.positions @ turn.T
    before, after = evaluate(potential, atoms), evaluate(potential, turned)
    np.testing.assert_allclose(after["energy"], before["energy"], atol=1e-10)
    np.testing.assert_allclose(after["forces"], before["forces"] @ turn.T, atol=1e-10)


def test_batch_equals_single(potential: Potential) -> None:
    structures = [ethanol(), crystal(), slab(), Atoms("H", positions=[[0, 0, 0]])]
    together = evaluate(potential, *structures)
    start = 0
    for index, atoms in enumerate(structures):
        alone = evaluate(potential, atoms)
        np.testing.assert_allclose(together["energy"][index], alone["energy"][0], atol=1e-10)
        np.testing.assert_allclose(together["forces"][start : start + len(atoms)], alone["forces"], atol=1e-10)
        np.testing.assert_allclose(together["stress"][index], alone["stress"][0], atol=1e-10)
        start += len(atoms)


def test_size_extensive(potential: Potential) -> None:
    atoms = crystal()
    single, double = evaluate(potential, atoms), evaluate(potential, atoms.repeat((2, 1, 2)))
    np.testing.assert_allclose(double["energy"], 4 * single["energy"], atol=1e-9)
    np.testing.assert_allclose(double["stress"], single["stress"], atol=1e-10)
    far = ethanol()
    far.positions += 50.0
    pair = evaluate(potential, ethanol() + far)
    np.testing.assert_allclose(pair["energy"], 2 * evaluate(potential, ethanol())["energy"], atol=1e-9)


def test_isolated_and_no_atoms(potential: Potential) -> None:
    alone = evaluate(potential, Atoms("C", positions=[[0, 0, 0]]))
    assert np.isfinite(alone["energy"]).all()
    np.testing.assert_array_equal(alone["forces"], np.zeros((1, 3)))
    nothing = evaluate(potential, Atoms())
    np.testing.assert_array_equal(nothing["energy"], [0.0])
    assert nothing["forces"].shape == (0, 3)


@pytest.mark.gpu
def test_nothing_waits_for_the_host(potential: Potential) -> None:
    """On a GPU, no operation of an evaluation may wait for the device, which would stall every step."""
    if potential.species_of.device.type != "cuda":
        pytest.skip("needs a CUDA device and MLFF_TEST_DEVICE=cuda")
    graph = graph_of(slab(), potential)
    expected = potential(graph)  # the first call loads libraries and may wait
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = potential(graph)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=1e-10)


def test_input_graph_is_not_changed(potential: Potential) -> None:
    graph = graph_of(ethanol(), potential)
    before = {key: value.clone() for key, value in graph.items()}
    potential(graph)
    assert graph.keys() == before.keys()
    for key, value in before.items():
        assert torch.equal(graph[key], value)
        assert not graph[key].requires_grad


def test_save_and_load(potential: Potential, tmp_path: object) -> None:
    small = potential.to_precision("float32").to("cpu")  # where sums have a fixed order
    folder = small.save(f"{tmp_path}/p", card="# a card\n")
    loaded = load_potential(folder)
    before, after = evaluate(small, ethanol()), evaluate(loaded, ethanol())
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_low_precision_is_near(potential: Potential, atoms: Atoms, precision: str) -> None:
    exact, near = evaluate(potential, atoms), evaluate(potential.to_precision(precision), atoms)
    np.testing.assert_allclose(near["energy"], exact["energy"], rtol=1e-5)
    np.testing.assert_allclose(near["forces"], exact["forces"], atol=2e-4 * max(1.0, np.abs(exact["forces"]).max()))
    assert near["energy"].dtype == np.float64


def test_training_mode_differentiates_forces(backbone: str, device: torch.device) -> None:
    """The gradient of a force loss with respect to a weight agrees with a finite difference."""
    potential = make_potential(backbone).to(device).train()
    graph = graph_of(ethanol(), potential)
    weights = potential.heads["energy"].hidden.weight

    def loss() -> torch.Tensor:
        return (potential(graph)["forces"] ** 2).sum()

    gradient = torch.autograd.grad(loss(), weights)[0][1, 2].item()
    values = []
    for step in (1e-5, -2e-5):
        weights.data[1, 2] += step
        values.append(loss().item())
    assert gradient == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_direct_forces_are_equivariant(backbone: str, device: torch.device) -> None:
    potential = make_potential(backbone, forces="direct").to(device)
    atoms, turn = ethanol(), orthogonal(8, improper=True)
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.T
    before, after = evaluate(potential, atoms), evaluate(potential, turned)
    np.testing.assert_allclose(after["forces"], before["forces"] @ turn.T, atol=1e-10)
    assert np.abs(before["forces"]).max() > 1e-3
    assert "stress" not in before


@pytest.mark.parametrize("options", [{"l_max": 3, "m_max": 1}, {"l_max": 2, "m_max": 0}, {"l_max": 0, "m_max": 0}])
@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "rotoinversion"])
def test_fewer_orders_and_no_degrees(device: torch.device, options: dict[str, int], improper: bool) -> None:
    """Symmetry and gradients also hold with m_max below l_max, and with scalars only."""
    potential = make_potential("equiformer", backbone={"name": "equiformer", "cutoff": 4.0, **options}).to(device)
    atoms, turn = ethanol(), orthogonal(12, improper)
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.T
    before, after = evaluate(potential, atoms), evaluate(potential, turned)
    np.testing.assert_allclose(after["energy"], before["energy"], atol=1e-10)
    np.testing.assert_allclose(after["forces"], before["forces"] @ turn.T, atol=1e-10)
    direction = np.random.default_rng(3).normal(size=before["forces"].shape)
    slope = directional_derivative(potential, atoms, direction, None, 1e-4)
    assert slope == pytest.approx(-np.sum(before["forces"] * direction), rel=1e-6, abs=1e-7)
