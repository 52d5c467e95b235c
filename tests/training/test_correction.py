"""Fixed-point correction: its states, the outputs at them, the effect of a loss on them, and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from mlff_calc.errors import RecipeError
from mlff_calc.graph import Graph, collate, graph_from_atoms
from mlff_calc.potential import build_potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.training.data import Batch
from mlff_calc.training.module import TrainingModule
from mlff_calc.training.potential.correction import correction_counts, outputs_on_the_way
from mlff_calc.training.potential.fixed_point import FixedPointObjective, objective_for
from mlff_calc.training.recipe import parse_recipe

SIZES = {"l_max": 1, "channels": 4, "heads": 2, "edge_channels": 8}


def make_potential(**options: object) -> FixedPointPotential:
    backbone = {
        "name": "deq", "block": "equiformer", "prelude": 0,
        "cutoff": 4.0,
        "training_tolerance": 1e-10,
        "training_evaluations": 8,
        **SIZES,
        **options,
    }
    config = {"backbone": backbone, "elements": ["H", "C", "O"], "repulsion": {"name": "zbl"}}
    return build_potential(config, seed=2).to_precision("float64").train()


def batch_of(*names: str) -> Graph:
    structures = [molecule(name) for name in names]
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=seed)
    return collate([graph_from_atoms(atoms, 4.0) for atoms in structures])


@pytest.mark.parametrize(
    ("n_states", "evaluations", "counts"),
    [
        (1, 4, [2]),
        (2, 4, [1, 2]),
        (1, 8, [4]),
        (2, 8, [2, 5]),
        (2, 9, [3, 6]),
        (1, 1, [0]),
        (2, 1, [0]),
        (2, 2, [0, 1]),
    ],
)
def test_counts(n_states: int, evaluations: int, counts: list[int]) -> None:
    assert correction_counts(n_states, evaluations) == counts


def test_outputs_are_those_of_the_lagrangian_on_the_way() -> None:
    """Outputs at a state after k evaluations equal those of solves that stop there and add `phantom_steps`."""
    potential, graph = make_potential(training_evaluations=40, solver="picard", feedback=0.1), batch_of("H2O", "CH3OH")
    found = potential.solve(graph, [1, 3, 39])
    on_the_way = outputs_on_the_way(potential, graph, found)
    for k, out in zip((1, 3), on_the_way, strict=False):
        potential.backbone.training_evaluations = k + 1  # then its best state is the last one
        short = potential.solve(graph)
        torch.testing.assert_close(short["state"], found["path_states"][[1, 3].index(k)], rtol=0.0, atol=0.0)
        expected = potential.outputs(graph, short["state"], found["path_adjoints"][[1, 3].index(k)])
        for name in ("energy", "forces", "stress"):
            torch.testing.assert_close(out[name], expected[name], rtol=0.0, atol=1e-12)
    solution = potential.outputs(graph, found["state"], found["adjoint"])
    errors = [float((out["forces"] - solution["forces"]).norm().detach()) for out in on_the_way]
    assert errors[0] > 3.0 * errors[1] > 9.0 * errors[2]
    assert errors[2] < 1e-6 * float(solution["forces"].norm().detach())


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_gradients_are_those_of_the_outputs_at_fixed_states(forces: str) -> None:
    """Gradients by weights of f and of the head agree with finite differences of the loss."""
    heads = [{"name": "energy"}] + ([{"name": "direct_forces"}] if forces == "direct" else [])
    config = make_potential().config | {"heads": heads}
    potential = build_potential(config, seed=2).to_precision("float64").train()
    graph = batch_of("H2O", "CO")
    found = potential.solve(graph, [2, 4])
    n_atoms, generator = torch.tensor([3, 2]), torch.Generator().manual_seed(0)
    labels = {
        "energy": torch.randn(2, generator=generator, dtype=torch.float64),
        "forces": torch.randn(5, 3, generator=generator, dtype=torch.float64),
    }
    objective = objective_of(potential, {"energy": 1.0, "forces": 1.0, "form": "mse"}, correction=0.7)
    batch = Batch(graph, labels, n_atoms, [0, 1])

    def value() -> Tensor:
        return objective.on_the_way(outputs_on_the_way(potential, graph, found), batch)

    weights = [potential.backbone.map.blocks[0].attention.project.weight, potential.backbone.stack.norm.scale]
    for weight, gradient in zip(weights, torch.autograd.grad(value(), weights), strict=True):
        direction, kept, values = torch.randn(weight.shape, generator=generator).double(), weight.data.clone(), []
        for factor in (-2, -1, 1, 2):
            weight.data = kept + factor * 1e-3 * direction
            values.append(float(value().detach()))
        weight.data = kept
        slope = (values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / 12e-3
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


def test_the_loss_is_a_mean_over_states_times_its_weight() -> None:
    objective = objective_of(make_potential(), {"energy": 2.0, "forces": 1.0}, correction=0.25)
    n_atoms, labels = torch.tensor([2]), {"energy": torch.zeros(1).double(), "forces": torch.zeros(2, 3).double()}
    outputs = [{"energy": torch.full((1,), e).double(), "forces": torch.full((2, 3), f).double()}
               for e, f in ((1.0, 0.0), (2.0, 3.0))]  # fmt: skip
    weights = {"energy": torch.tensor([3.0]).double(), "forces": torch.tensor([0.5, 0.5]).double()}
    for chosen, expected in ((None, [1.0, 2.0 + 27.0**0.5]), (weights, [3.0, 6.0 + 0.5 * 27.0**0.5])):
        batch = Batch({}, labels, n_atoms, [0], chosen)
        alone = [float(objective.loss(one, batch)) for one in outputs]
        assert alone == pytest.approx(expected)
        assert float(objective.on_the_way(outputs, batch)) == pytest.approx(0.25 * sum(alone) / 2.0)
        assert float(objective.on_the_way(outputs[:1], batch)) == pytest.approx(0.25 * alone[0])


def labels_of(graph: Graph, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    n_atoms, n_systems = graph["atomic_numbers"].shape[0], graph["cell"].shape[0]
    return {
        "energy": torch.randn(n_systems, generator=generator, dtype=torch.float64),
        "forces": torch.randn(n_atoms, 3, generator=generator, dtype=torch.float64),
    }


def test_a_training_step_adds_it() -> None:
    """A training step uses the states of its own solve, started from kept solutions; validation adds no correction."""
    graph = batch_of("H2O", "CO")
    batch = Batch(graph, labels_of(graph), torch.tensor([3, 2]), [0, 1])
    losses, n_solves = [], 2
    for changes in (
        {"correction": 0.0},
        {"correction": 0.5},
        {"correction": 0.5, "correction_states": 2, "contraction": 1.0},
    ):
        potential = make_potential(training_evaluations=4, training_tolerance=1e-5)
        recipe = parse_recipe(recipe_with(fixed_point=changes | {"contraction_every": 1}), "my.yaml")
        objective = objective_for(recipe, potential)
        module = TrainingModule("potential", potential, objective, recipe).train()
        for _ in range(n_solves):
            starts = module.prepared("train", batch).graph
            loss = module.training_step(batch, 0)
        assert "start_state" in starts
        losses.append(float(loss.detach()))
        plain = {name: value for name, value in potential(starts).items() if name != "growth"}
        expected = objective.loss(plain, batch)
        if changes["correction"] > 0.0:
            counts = [2] if len(changes) == 1 else [1, 2]
            found = potential.solve(starts, counts)
            on_the_way = [potential.outputs(batch.graph, found["path_states"][i], found["path_adjoints"][i])
                          for i in range(len(counts))]  # fmt: skip
            at = [float(objective.loss(out, batch).detach()) for out in on_the_way]
            expected = expected + 0.5 * sum(at) / len(at)
        if "contraction" in changes:
            expected = expected + objective.penalty(potential(starts)["growth"])
        assert losses[-1] == pytest.approx(float(expected.detach()), rel=1e-12)
        module.eval()
        assert "path_states" not in module(graph)
    assert losses[1] > 1.2 * losses[0]


def test_solves_cut_short_come_nearer_to_the_labels() -> None:
    """With correction, truncated cold solves have smaller errors than without, and full solves are not worse."""
    graph, n_atoms, found = batch_of("H2O", "CO"), torch.tensor([3, 2]), []
    labels = {name: 0.3 * value for name, value in labels_of(graph).items()}
    for weight in (0.0, 3.0):
        potential = make_potential(training_evaluations=6, feedback=0.6)
        objective = objective_of(potential, {"energy": 1.0, "forces": 1.0, "form": "mse"}, correction=weight)
        batch = Batch(graph, labels, n_atoms, [0, 1])
        optimizer = torch.optim.Adam(potential.parameters(), lr=0.02)
        for _ in range(25):
            solved = potential.solve(graph, [0])
            total = objective.loss(potential.outputs(graph, solved["state"], solved["adjoint"]), batch)
            on_the_way = outputs_on_the_way(potential, graph, solved)
            (total + objective.on_the_way(on_the_way, batch)).backward()
            optimizer.step()
            optimizer.zero_grad()
        found.append((float(objective.loss(on_the_way[0], batch).detach()), float(total.detach())))
    (early, late), (early_corrected, late_corrected) = found
    assert early > 1.1 * late
    assert early_corrected < early
    assert early_corrected - late_corrected < 0.5 * (early - late)
    assert late_corrected < 1.2 * late


def recipe_with(**changes: Any) -> dict[str, Any]:
    return {
        "potential": {"backbone": {"name": "deq", "block": "equiformer", "prelude": 0, **SIZES}},
        "data": {"train": "cu.extxyz", "split": {"valid": 0.2}},
        "fixed_point": {"correction": 0.5},
        "optimizer": {"max_epochs": 2},
        "output": "run",
    } | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"trainer": {"compile": True}},
            r"correction is 0\.5, but trainer.compile is true.*set trainer.compile: false",
        ),
        (
            {"potential": {"backbone": {"name": "equiformer"}}},
            r"0\.5, but backbone 'equiformer' solves .* take backbone deq",
        ),
        (
            {"potential": {"backbone": {"name": "deq", "gradient": "implicit"}}},
            r"0\.5, but gradient: implicit .* phantom",
        ),
        ({"fixed_point": {"correction": -1.0}}, r"correction"),
        ({"fixed_point": {"correction": 1.0, "correction_states": 3}}, r"correction_states"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_recipe(recipe_with(**changes), "my.yaml")
    parse_recipe(recipe_with(), "my.yaml")


@pytest.mark.parametrize(
    ("backbone", "option", "said"),
    [
        ({"name": "equiformer", "channels": 4}, "correction", "backbone 'equiformer' solves for nothing; leave"),
        ({"name": "equiformer", "channels": 4}, "contraction", "backbone 'equiformer' with forces: gradient solves"),
        ({"name": "deq", "block": "equiformer", "gradient": "implicit", **SIZES}, "correction", "gradient: implicit is"),
    ],
)
def test_a_start_without_the_requested_options_is_refused(backbone: dict[str, Any], option: str, said: str) -> None:
    """With fine-tuning, the network is known only after the recipe, and is then checked."""
    potential = build_potential({"backbone": backbone, "elements": ["Cu"]}, seed=0)
    changed = recipe_with(fine_tune_from="other", fixed_point={option: 0.5})
    del changed["potential"]
    with pytest.raises(RecipeError, match=rf"my.yaml: fixed_point.{option} is 0\.5, but {said}"):
        objective_for(parse_recipe(changed, "my.yaml"), potential)


def objective_of(potential: FixedPointPotential, loss: dict[str, Any], **section: float) -> FixedPointObjective:
    return FixedPointObjective(parse_recipe(recipe_with(loss=loss, fixed_point=section), "my.yaml"), potential)
