"""The map of a deep-equilibrium backbone: options, symmetry, size consistency, derivatives of its fixed point."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from e3nn import o3
from scipy.spatial.transform import Rotation
from torch import Tensor

from mlff_calc.backbones import build_backbone
from mlff_calc.backbones.deq import Deq
from mlff_calc.errors import RecipeError
from mlff_calc.graph import Graph, collate, graph_from_atoms

SPECIES = {1: 0, 6: 1, 8: 2}
SIZES = {
    "equiformer": {"cutoff": 4.0, "channels": 4, "l_max": 1, "heads": 2, "edge_channels": 8},
    "hegnn": {"cutoff": 4.0, "channels": 8, "l_max": 2},
    "cg_egnn": {"cutoff": 4.0, "channels": 4, "edge_channels": 8},
}
FIRST = {
    "equiformer": "blocks.0.attention.project.weight", "hegnn": "blocks.0.pair.weight",
    "cg_egnn": "blocks.0.hops.0.lift.weight",
}  # fmt: skip
"""A weight of the map that acts on the state."""
blocks = pytest.mark.parametrize("block", sorted(SIZES))


def make_backbone(block: str = "equiformer", **options: object) -> Deq:
    whole = {"name": "deq", "block": block, "prelude": 0, **SIZES[block], "avg_num_neighbors": 6.0, **options}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        backbone = build_backbone(whole, n_species=3)
        for parameter in backbone.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    return backbone.double().eval()


def graph_of(atoms: Atoms) -> Graph:
    graph = graph_from_atoms(atoms, 4.0)
    graph["species"] = torch.tensor([SPECIES[int(z)] for z in atoms.numbers], dtype=torch.long)
    return graph


def water(seed: int = 1) -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=seed)
    return atoms


def random_state(backbone: Deq, n_atoms: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (n_atoms, *backbone.state_shape)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def evaluate(backbone: Deq, atoms: Atoms, state: Tensor) -> Tensor:
    graph = graph_of(atoms)
    with torch.no_grad():
        return backbone.evaluate(state, graph["edge_index"], backbone.prepare(graph))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("n_blocks", 3, "n_blocks is 3; choose 1 or 2"),
        ("n_blocks", 0, "n_blocks is 0; choose 1 or 2"),
        ("gradient", "exact", "gradient is 'exact'; choose one of phantom, implicit"),
        ("training_evaluations", 0, "training_evaluations is 0; it must be at least 1"),
        ("training_tolerance", 0.0, "training_tolerance is 0.0; it must be positive"),
        ("phantom_steps", 0, "phantom_steps is 0; it must be at least 1"),
        ("normalization", "batch", "normalization is 'batch'; choose one of none, weight, spectral"),
        ("solver", "newton", "unknown solver 'newton'; choose one of picard, anderson, broyden"),
        ("tolerance", -1e-3, "tolerance = -0.001 of a fixed-point solver; it must be positive"),
        ("max_evaluations", 0, "max_evaluations = 0 of a fixed-point solver; it must be at least 1"),
        ("damping", 1.5, "damping = 1.5 of a fixed-point solver; it must be above 0 and at most 1"),
        ("history", 0, "history = 0 of a fixed-point solver; it must be at least 1"),
        ("feedback", 0.0, "feedback"),
        ("prelude", -1, "prelude is -1; it must be at least 0"),
        ("channels", 0, "channels"),
        ("l_max", -1, "l_max"),
        ("cutoff", -1.0, "cutoff"),
        ("n_basis", 0, "n_basis"),
    ],
)
def test_options_are_refused(option: str, value: object, message: str) -> None:
    """A bad option raises one error that names the backbone, the option and its value."""
    with pytest.raises(RecipeError) as caught:
        make_backbone(**{option: value})
    text = str(caught.value)
    assert "deq" in text
    assert message in text
    assert str(value) in text
    assert "\n" not in text


@pytest.mark.parametrize("n_blocks", [1, 2])
@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "rotoinversion"])
def test_the_map_turns_with_structure_and_state(n_blocks: int, improper: bool) -> None:
    backbone, atoms = make_backbone(n_blocks=n_blocks, l_max=2), water()
    turn = Rotation.random(random_state=4).as_matrix() * (-1.0 if improper else 1.0)
    points = torch.tensor(np.random.default_rng(1).normal(size=(100, 3)))
    degrees = list(range(backbone.l_max + 1))
    before, after = (
        o3.spherical_harmonics(degrees, x, normalize=True) for x in (points, points @ torch.tensor(turn.T))
    )
    wigner = torch.linalg.lstsq(before, after).solution.T
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.T
    state = random_state(backbone, 3)
    expected = torch.einsum("mn,anc->amc", wigner, evaluate(backbone, atoms, state))
    found = evaluate(backbone, turned, torch.einsum("mn,anc->amc", wigner, state))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-11)
    still = evaluate(backbone, turned, state)
    assert float((still - expected).abs().max()) > 1e-3  # the map depends on the state and on its orientation


@blocks
@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "rotoinversion"])
def test_features_of_the_fixed_point_turn_with_the_structure(block: str, improper: bool) -> None:
    backbone, atoms = make_backbone(block, prelude=1, tolerance=1e-12, max_evaluations=300), water()
    turn = Rotation.random(random_state=4).as_matrix() * (-1.0 if improper else 1.0)
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.T
    before, after = (backbone(graph_of(one))["node_features"].detach() for one in (atoms, turned))
    torch.testing.assert_close(after[:, 0], before[:, 0], rtol=0.0, atol=1e-10)
    vectors = torch.einsum("xy,nyc->nxc", torch.tensor(turn), before[:, 1:4])
    torch.testing.assert_close(after[:, 1:4], vectors, rtol=0.0, atol=1e-10)
    assert float(vectors.abs().max()) > 1e-3


@blocks
def test_a_prelude_is_evaluated_before_the_fixed_point(block: str) -> None:
    """The layers of the prelude change u, and their weights are not those of f."""
    without, with_one, graph = make_backbone(block), make_backbone(block, prelude=1), graph_of(water())
    assert with_one.n_layers == without.n_layers + with_one.n_explicit
    before = with_one.prepare(graph)[0].detach()
    name = next(name for name, _ in with_one.stack.named_parameters() if name.startswith(("blocks.0.", "layers.0.")))
    with torch.no_grad():
        with_one.get_parameter(f"stack.{name}").add_(0.3)
    assert float((with_one.prepare(graph)[0].detach() - before).abs().max()) > 1e-4
    assert sum(one.numel() for one in with_one.map.parameters()) == sum(one.numel() for one in without.map.parameters())


@blocks
def test_layers_are_counted_from_the_prelude_to_the_map(block: str) -> None:
    backbone = make_backbone(block, prelude=2, n_blocks=2)
    assert backbone.n_levels == 4
    of = {name: backbone.layer_of(name) for name, _ in backbone.named_parameters()}
    assert sorted(set(of.values())) == [0, 1, 2, 3, 4]
    assert {of[name] for name in of if name.startswith("map.blocks.0.")} == {3}
    last = {"equiformer": "stack.norm.scale", "hegnn": "stack.widen", "cg_egnn": "stack.radial.0.weight"}[block]
    assert of[last] == 4  # what acts after the last layer, or in it and others


def test_an_unknown_block_or_an_option_of_another_one_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"block is 'hegn'; choose one of .*; did you mean 'hegnn'"):
        build_backbone({"name": "deq", "block": "hegn"}, n_species=1)
    with pytest.raises(RecipeError, match="unknown option 'heads' of backbone 'deq' with block hegnn"):
        build_backbone({"name": "deq", "block": "hegnn", "heads": 2}, n_species=1)
    with pytest.raises(RecipeError, match="unknown option 'moves' of backbone 'deq' with block cg_egnn"):
        build_backbone({"name": "deq", "block": "cg_egnn", "moves": True}, n_species=1)


@blocks
@pytest.mark.parametrize("n_blocks", [1, 2])
def test_far_molecules_do_not_see_each_other(block: str, n_blocks: int) -> None:
    """Molecules that are far apart are independent in one system and in a batch, since nothing is normalized over either."""
    backbone, one, other = make_backbone(block, n_blocks=n_blocks), water(), water(2)
    other.rotate(40, "y")
    states = random_state(backbone, 3), 5.0 * random_state(backbone, 3, seed=1)
    alone = torch.cat([evaluate(backbone, one, states[0]), evaluate(backbone, other, states[1])])
    far = other.copy()
    far.positions += 30.0
    together = evaluate(backbone, one + far, torch.cat(states))
    torch.testing.assert_close(together, alone, rtol=0.0, atol=1e-12)
    graph = collate([graph_from_atoms(atoms, 4.0) for atoms in (one, other)])
    graph["species"] = torch.cat([graph_of(atoms)["species"] for atoms in (one, other)])
    with torch.no_grad():
        batch = backbone.evaluate(torch.cat(states), graph["edge_index"], backbone.prepare(graph))
    torch.testing.assert_close(batch, alone, rtol=0.0, atol=1e-12)


@blocks
def test_atoms_in_another_order(block: str) -> None:
    backbone, atoms, order = make_backbone(block), water(), [2, 0, 1]
    state = random_state(backbone, 3)
    found = evaluate(backbone, atoms[order], state[order])
    torch.testing.assert_close(found, evaluate(backbone, atoms, state)[order], rtol=0.0, atol=1e-12)


@blocks
def test_the_map_is_bounded(block: str) -> None:
    """The state enters through a norm per atom, so that a large state does not give a large value."""
    backbone, atoms = make_backbone(block), water()
    state = random_state(backbone, 3)
    large = [float(evaluate(backbone, atoms, size * state).abs().max()) for size in (1e3, 1e6)]
    assert large[1] == pytest.approx(large[0], rel=1e-3)


@blocks
def test_feedback_scales_what_the_state_changes(block: str) -> None:
    atoms, changes = water(), []
    for feedback in (0.1, 0.2):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            options = {"name": "deq", "block": block, **SIZES[block], "feedback": feedback}
            backbone = build_backbone(options, n_species=3).double()
        states = random_state(backbone, 3), random_state(backbone, 3, seed=1)
        values = [evaluate(backbone, atoms, state) for state in states]
        changes.append(float((values[0] - values[1]).norm()))
    assert changes[1] == pytest.approx(2.0 * changes[0], rel=0.3)


def features(backbone: Deq, graph: Graph, edge_vec: Tensor) -> Tensor:
    return backbone({**graph, "edge_vec": edge_vec})["node_features"]


@blocks
@pytest.mark.parametrize("gradient", ["phantom", "implicit"])
def test_features_have_the_derivatives_of_the_fixed_point(block: str, gradient: str) -> None:
    """Derivatives by edge vectors and by weights agree with finite differences of whole solves."""
    backbone = make_backbone(block, gradient=gradient, tolerance=1e-12, max_evaluations=300)
    graph = graph_of(water())
    generator = torch.Generator().manual_seed(5)
    shape = (3, (backbone.l_max + 1) ** 2, backbone.channels)
    reader = torch.randn(shape, generator=generator, dtype=torch.float64)
    edge_vec = graph["edge_vec"].clone().requires_grad_()
    weight = backbone.map.get_parameter(FIRST[block])
    value = (features(backbone, graph, edge_vec) * reader).sum()
    by_edges, by_weight = torch.autograd.grad(value, [edge_vec, weight])
    for tensor, found in ((edge_vec, by_edges), (weight, by_weight)):
        direction = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        kept, values = tensor.data.clone(), []
        for factor in (-2, -1, 1, 2):
            tensor.data = kept + factor * 1e-3 * direction
            values.append(float((features(backbone, graph, edge_vec) * reader).sum().detach()))
        tensor.data = kept
        slope = (values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / 12e-3
        assert slope == pytest.approx(float((found * direction).sum()), rel=1e-6)


@blocks
def test_second_derivatives_of_features(block: str) -> None:
    """Second derivatives are needed for losses on forces."""
    one_head = {"heads": 1} if block == "equiformer" else {}
    backbone = make_backbone(block, channels=2, tolerance=1e-13, max_evaluations=300, **one_head)
    graph = graph_of(Atoms("OH", positions=[[0, 0, 0], [0.5, 0.6, 0.7]]))
    graph["edge_vec"] = graph["edge_vec"].clone()

    def energy(edge_vec: Tensor) -> Tensor:
        return torch.sin(features(backbone, graph, edge_vec)).sum()

    edge_vec = graph["edge_vec"].requires_grad_()
    torch.autograd.gradcheck(energy, edge_vec, fast_mode=True)
    torch.autograd.gradgradcheck(energy, edge_vec, fast_mode=True)


def test_a_solve_starts_at_the_embedding_or_at_the_state_in_the_graph() -> None:
    backbone, graph = make_backbone(tolerance=1e-9, max_evaluations=200), graph_of(water())
    cold = backbone(graph)
    assert int(cold["evaluations"]) > 5
    assert float(cold["residual"]) < 1e-9
    assert not cold["state"].requires_grad
    warm = backbone({**graph, "start_state": cold["state"]})
    assert int(warm["evaluations"]) == 1
    torch.testing.assert_close(warm["node_features"], cold["node_features"], rtol=0.0, atol=0.0)
    with torch.no_grad():
        embedding = backbone.prepare(graph)[0]
    begun = backbone({**graph, "start_state": embedding})
    assert int(begun["evaluations"]) == int(cold["evaluations"])


def test_training_ends_earlier() -> None:
    options = {"training_evaluations": 3, "training_tolerance": 1e-6, "tolerance": 1e-9}
    backbone, graph = make_backbone(**options).train(), graph_of(water())
    found = backbone(graph)
    assert int(found["evaluations"]) == 3
    assert float(found["residual"]) > 1e-6
    assert int(backbone.eval()(graph)["evaluations"]) > 5
