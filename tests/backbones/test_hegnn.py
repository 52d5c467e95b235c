"""`hegnn`: sensitivity to directions by degree, the centre term, reach, unusual graphs, options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import Tensor

from mlff_calc.backbones import build_backbone
from mlff_calc.backbones.base import Backbone
from mlff_calc.errors import RecipeError, StructureError
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.potential import build_potential, evaluate_atoms, load_potential

TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3.0)


def backbone_of(**options: object) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = build_backbone({"name": "hegnn", "cutoff": 3.0, "channels": 8, "n_layers": 2, **options}, n_species=2)
    return made.double()


def graph_of(positions: np.ndarray, cutoff: float = 3.0, pbc: bool = False) -> dict[str, Tensor]:
    cell = 9.0 * np.eye(3) if pbc else None
    atoms = Atoms("H" * len(positions), positions=positions, cell=cell, pbc=pbc)
    return {**graph_from_atoms(atoms, cutoff), "species": torch.zeros(len(positions), dtype=torch.long)}


def features(backbone: Backbone, positions: np.ndarray) -> Tensor:
    return backbone(graph_of(positions, backbone.cutoff))["node_features"].detach()


def same_distances() -> tuple[np.ndarray, np.ndarray]:
    """Return two structures whose atoms have the same neighbours at the same distances, but different angles.

    A centre has two atoms at 1 Angstrom, in a straight or bent arrangement; the outer atoms are not neighbours.
    """
    bent = np.array([[0.0, 0, 0], [1.0, 0, 0], [np.cos(2.2), np.sin(2.2), 0]])
    straight = np.array([[0.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]])
    return straight, bent


def test_egnn_sees_no_direction() -> None:
    straight, bent = same_distances()
    egnn = backbone_of(l_max=0, cutoff=1.7)
    torch.testing.assert_close(features(egnn, bent), features(egnn, straight), rtol=0, atol=1e-13)
    assert features(egnn, straight).shape == (3, 1, 8)


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_degrees_see_angles(l_max: int) -> None:
    straight, bent = same_distances()
    steerable = backbone_of(l_max=l_max, cutoff=1.7)
    difference = features(steerable, bent)[:, 0] - features(steerable, straight)[:, 0]
    assert difference.abs().max() > 1e-5  # EGNN gives 1e-13


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("l_max", [4, 10])
def test_high_degrees_turn_with_the_structure(l_max: int, copies: int) -> None:
    from e3nn import o3

    positions = np.random.default_rng(0).normal(size=(6, 3))
    turn = -torch.from_numpy(np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0])
    if torch.linalg.det(turn) > 0:
        turn = -turn  # an improper rotation
    backbone = backbone_of(l_max=l_max, steerable_channels=copies)
    before, after = features(backbone, positions), features(backbone, positions @ turn.numpy().T)
    points = torch.randn(400, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    degrees = list(range(l_max + 1))
    one, other = (o3.spherical_harmonics(degrees, x, normalize=True) for x in (points, points @ turn.T))
    wigner = torch.linalg.lstsq(one, other).solution.T
    torch.testing.assert_close(torch.einsum("mn,anc->amc", wigner, before), after, rtol=0, atol=1e-9)
    for degree in range(l_max + 1):
        assert after[:, degree**2 : (degree + 1) ** 2].abs().max() > 1e-4


def pooled(backbone: Backbone, degree: int) -> float:
    total = features(backbone, TETRAHEDRON).sum(dim=0)
    return total[degree**2 : (degree + 1) ** 2].abs().max().item()


def test_symmetry_takes_degrees_from_a_tetrahedron() -> None:
    """Its group has no invariant of degrees 1, 2 and 5; that of degree 3 cancels between both directions of edges."""
    edges, centred = backbone_of(l_max=6), backbone_of(l_max=6, centre=True)
    for degree in (1, 2, 5):
        assert pooled(edges, degree) < 1e-12
        assert pooled(centred, degree) < 1e-12
    for degree in (3, 4, 6):
        assert pooled(centred, degree) > 1e-3
    assert pooled(edges, 4) > 1e-3


def test_centre_is_the_same_anywhere_and_in_a_batch() -> None:
    backbone = backbone_of(l_max=3, centre=True)
    positions = np.random.default_rng(2).normal(size=(5, 3))
    alone, moved = features(backbone, positions), features(backbone, positions + np.array([30.0, -4.0, 7.0]))
    torch.testing.assert_close(moved, alone, rtol=0, atol=1e-10)
    graphs = [graph_of(structure) for structure in (TETRAHEDRON, positions)]
    for graph in graphs:
        graph.pop("species")
    batch = collate(graphs)
    batch["species"] = torch.zeros_like(batch["atomic_numbers"])
    torch.testing.assert_close(backbone(batch)["node_features"][4:], alone, rtol=0, atol=1e-10)


def test_centre_is_refused_where_there_is_none() -> None:
    backbone = backbone_of(l_max=2, centre=True)
    with pytest.raises(StructureError, match="periodic"):
        backbone(graph_of(TETRAHEDRON, pbc=True))
    ghosts = graph_of(TETRAHEDRON)
    with pytest.raises(StructureError, match="ghost atoms"):
        backbone({**ghosts, "node_species": ghosts["species"]})
    ghosts.pop("positions")
    with pytest.raises(StructureError, match="reads positions"):
        backbone(ghosts)
    with pytest.raises(RecipeError, match="centre is true at l_max 0"):
        backbone_of(l_max=0, centre=True)


def test_centre_has_no_forces_by_gradient() -> None:
    config = {"backbone": {"name": "hegnn", "channels": 8, "centre": True}, "elements": ["H", "O"]}
    with pytest.raises(StructureError, match="forces: direct"):
        evaluate_atoms(build_potential(config, seed=0), [molecule("H2O")])
    direct = evaluate_atoms(build_potential({**config, "forces": "direct"}, seed=0), [molecule("H2O")])
    assert np.isfinite(direct["forces"]).all()


@pytest.mark.parametrize(("n_layers", "l_max", "reach"), [(1, 0, 1), (2, 0, 2), (1, 2, 2)])
def test_reach(n_layers: int, l_max: int, reach: int) -> None:
    """Each layer extends the reach by one cutoff; steerable features contain neighbours before the first layer."""
    backbone = backbone_of(n_layers=n_layers, l_max=l_max, cutoff=1.5)
    chain = np.array([[1.0 * i, 0.1 * (i % 2), 0.0] for i in range(5)])
    first = features(backbone, chain)[0]
    for moved in range(1, 5):
        other = chain.copy()
        other[moved, 2] += 0.3
        change = (features(backbone, other)[0] - first).abs().max().item()
        assert (change > 1e-6) == (moved <= reach), moved


@pytest.mark.parametrize("l_max", [0, 3])
def test_one_atom_no_edges_and_coincident_atoms(l_max: int) -> None:
    backbone = backbone_of(l_max=l_max)
    for positions in (np.zeros((1, 3)), 50.0 * TETRAHEDRON):
        found = features(backbone, positions)
        assert torch.isfinite(found).all()
        assert found[:, 1:].abs().sum() == 0.0
    graph = graph_of(TETRAHEDRON)
    graph["edge_vec"][0] = 0.0
    graph["edge_vec"].requires_grad_()
    found = backbone(graph)["node_features"]
    found.square().sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(graph["edge_vec"].grad).all()
    with pytest.raises(StructureError, match="atoms 0 and 1"):
        graph_of(np.zeros((2, 3)))


def test_inner_products_do_not_blow_up() -> None:
    """Steerable features that are a million times larger change scalars no more than ordinary ones do."""
    backbone = backbone_of(l_max=3)
    graph = graph_of(TETRAHEDRON)
    edges, scalars = backbone.edges(graph["edge_vec"]), torch.ones(4, 8, dtype=torch.float64)
    steerable = torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    steerable[:, 15] = 0.0
    with torch.no_grad():
        (ordinary, turned, _), (large, far, _) = (
            backbone.layers[0](scalars, scale * steerable, graph["edge_index"], edges) for scale in (1.0, 1e6)
        )
    assert (large - scalars).abs().max() < 10.0 * (ordinary - scalars).abs().max()
    assert (far - 1e6 * steerable).abs().max() < 10.0 * (turned - steerable).abs().max()
    assert (large - ordinary).abs().max() > 1e-3


def test_centre_adds_weights_and_changes_no_other_start() -> None:
    plain, centred = (backbone_of(l_max=2, centre=centre).state_dict() for centre in (False, True))
    assert plain.keys() == centred.keys()
    assert plain["centre_species"].numel() == 0


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("l_max", 11, "l_max is 11; it must be between 0 and 10"),
        ("l_max", -1, "l_max is -1"),
        ("cutoff", 0.0, "cutoff is 0.0; it must be positive"),
        ("channels", 0, "channels is 0"),
        ("n_layers", 0, "n_layers is 0"),
        ("steerable_channels", 0, "steerable_channels is 0"),
        ("n_basis", 0, "n_basis is 0"),
        ("avg_num_neighbors", 0.0, "avg_num_neighbors is 0.0"),
    ],
)
def test_options_out_of_range(option: str, value: float, message: str) -> None:
    with pytest.raises(RecipeError, match=f"backbone hegnn: {message}"):
        backbone_of(**{option: value})


def test_l_max_0_makes_a_force_field() -> None:
    config = {"backbone": {"name": "hegnn", "l_max": 0, "channels": 16}, "elements": ["Si"]}
    crystal = bulk("Si", cubic=True)
    crystal.rattle(0.1, seed=0)
    out = evaluate_atoms(build_potential(config, seed=0), [crystal])
    np.testing.assert_allclose(out["forces"].sum(axis=0), 0.0, atol=1e-5)
    assert np.abs(out["forces"]).max() > 1e-3


def random_weights(backbone: Backbone) -> Backbone:
    """Set weights that move atoms to ordinary values; their initial values near zero would hide mistakes."""
    with torch.random.fork_rng():
        torch.manual_seed(9)
        for parameter in backbone.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return backbone


def moving(n_atoms: int = 6, seed: int = 0, l_max: int = 2, turn: Tensor | None = None) -> dict[str, Tensor]:
    """A graph with inputs and a drift; vectors turned by `turn`."""
    rng = np.random.default_rng(seed)
    turn = torch.eye(3, dtype=torch.float64) if turn is None else turn
    positions = torch.from_numpy(rng.normal(size=(n_atoms, 3))) @ turn.T
    graph = graph_of(positions.numpy())
    inputs = torch.from_numpy(rng.normal(size=(n_atoms, 4, 8)))
    distances = graph["edge_vec"].norm(dim=1, keepdim=True)
    return {
        **graph,
        "drift": torch.from_numpy(rng.normal(size=(n_atoms, 3))) @ turn.T,
        "input_features": torch.cat([inputs[:, :1], turn @ inputs[:, 1:]], dim=1),
        "edge_inputs": torch.cos(distances * torch.arange(1, 9)),
    }


def rotoinversion() -> Tensor:
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0])
    return turn if torch.linalg.det(turn) < 0 else -turn


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("l_max", [0, 1, 3])
def test_moves_turn_with_the_structure(l_max: int, copies: int) -> None:
    backbone = random_weights(backbone_of(l_max=l_max, steerable_channels=copies, moves=True))
    turn = rotoinversion()
    before, after = (backbone(moving(turn=by))["moved"].detach() for by in (None, turn))
    torch.testing.assert_close(before @ turn.T, after, rtol=0, atol=1e-10)
    assert before.shape == (6, 3)
    assert before.abs().max() > 1e-2


@pytest.mark.parametrize("l_max", [0, 3])
def test_moves_follow_the_edges_and_not_the_place(l_max: int) -> None:
    backbone = random_weights(backbone_of(l_max=l_max, moves=True))
    graph = moving()
    elsewhere = {**graph, "positions": graph["positions"] + 30.0}
    torch.testing.assert_close(backbone(elsewhere)["moved"], backbone(graph)["moved"], rtol=0, atol=0)


@pytest.mark.parametrize("l_max", [0, 2])
def test_later_layers_see_atoms_where_they_are(l_max: int) -> None:
    """If the first layer only adds the drift, the second acts like a layer on the structure after the drift."""
    backbone = random_weights(backbone_of(l_max=l_max, n_layers=2, moves=True))
    graph = moving()
    graph.pop("input_features")
    first, second = backbone.layers
    for parameter in first.parameters():
        parameter.data.zero_()
    first.drag[2].bias.data.fill_(0.7)
    found = backbone(graph)
    backbone.layers = torch.nn.ModuleList([second])
    shift = 0.7 * graph["drift"]
    i, j = graph["edge_index"]
    moved = backbone({**graph, "edge_vec": graph["edge_vec"] + shift[j] - shift[i]})
    if l_max == 0:  # with degrees, steerable features start from the initial positions
        torch.testing.assert_close(found["node_features"], moved["node_features"], rtol=0, atol=1e-12)
        torch.testing.assert_close(found["moved"], shift + moved["moved"], rtol=0, atol=1e-12)
    still = backbone(graph)
    assert (found["node_features"] - still["node_features"]).abs().max() > 1e-3


def test_a_drift_moves_atoms() -> None:
    backbone, graph = random_weights(backbone_of(l_max=1, moves=True)), moving()
    drifting = backbone(graph)["moved"]
    graph.pop("drift")
    assert (backbone(graph)["moved"] - drifting).abs().max() > 1e-3


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("key", ["input_features", "edge_inputs"])
@pytest.mark.parametrize("l_max", [0, 2])
def test_inputs_are_heard(l_max: int, key: str, moves: bool) -> None:
    backbone = backbone_of(l_max=l_max, moves=moves)
    graph = moving()
    without = {name: value for name, value in graph.items() if name != key}
    assert (backbone(graph)["node_features"] - backbone(without)["node_features"]).abs().max() > 1e-3


def test_vectors_of_atoms_reach_features_of_degree_one() -> None:
    turned = moving()
    turned["input_features"] = turned["input_features"].clone()
    turned["input_features"][:, 1:] *= -1.0
    blind, seeing = backbone_of(l_max=0), backbone_of(l_max=1)
    torch.testing.assert_close(blind(turned)["node_features"], blind(moving())["node_features"], rtol=0, atol=0)
    assert (seeing(turned)["node_features"] - seeing(moving())["node_features"]).abs().max() > 1e-2


@pytest.mark.parametrize("l_max", [0, 3])
def test_moves_of_awkward_graphs_are_finite(l_max: int) -> None:
    backbone = random_weights(backbone_of(l_max=l_max, moves=True))
    alone = graph_of(np.zeros((1, 3)))
    assert torch.isfinite(backbone({**alone, "drift": torch.ones(1, 3)})["moved"]).all()
    graph = moving()
    graph["edge_vec"][:2] = 0.0
    graph["edge_vec"].requires_grad_()
    moved = backbone(graph)["moved"]
    moved.square().sum().backward()
    assert torch.isfinite(moved).all()
    assert torch.isfinite(graph["edge_vec"].grad).all()


@pytest.mark.parametrize("l_max", [0, 3])
def test_moves_in_a_batch(l_max: int) -> None:
    backbone = random_weights(backbone_of(l_max=l_max, moves=True))
    graphs = [moving(n_atoms, seed=n_atoms) for n_atoms in (4, 7)]
    alone = torch.cat([backbone(graph)["moved"] for graph in graphs])
    for graph in graphs:
        graph.pop("species")
    batch = collate(graphs)
    batch["species"] = torch.zeros_like(batch["atomic_numbers"])
    torch.testing.assert_close(backbone(batch)["moved"], alone, rtol=0, atol=1e-12)


def test_moves_have_forces_by_gradient_and_no_ghosts() -> None:
    config = {"backbone": {"name": "hegnn", "channels": 8, "moves": True}, "elements": ["H", "O"]}
    out = evaluate_atoms(build_potential(config, seed=0), [molecule("H2O")])
    assert np.isfinite(out["forces"]).all()
    ghosts = graph_of(TETRAHEDRON)
    with pytest.raises(StructureError, match="moves is true"):
        backbone_of(moves=True)({**ghosts, "node_species": ghosts["species"]})


def test_moves_add_weights_only_where_they_are_on() -> None:
    still, moves = (set(backbone_of(l_max=2, moves=on).state_dict()) for on in (False, True))
    assert still < moves
    assert {name.split(".")[2] for name in moves - still} == {"push_hidden", "drag"}


def test_potentials_saved_without_the_option_load(tmp_path: Path) -> None:
    config = {"backbone": {"name": "hegnn", "channels": 8}, "elements": ["H", "O"]}
    potential = build_potential(config, seed=0)
    potential.config["backbone"].pop("moves")
    loaded = load_potential(potential.save(tmp_path / "old"))
    assert loaded.config["backbone"]["moves"] is False
    before, after = (evaluate_atoms(each.eval(), [molecule("H2O")]) for each in (potential, loaded))
    np.testing.assert_array_equal(before["forces"], after["forces"])
