"""Steps with a fixed number of evaluations, compared with converged solves in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from torch import Tensor

from mlff_calc.fixed_point.memory import Memory
from mlff_calc.fixed_point.predictors import LeastSquares, Predictor, polynomial
from mlff_calc.graph import Graph, graph_from_atoms
from mlff_calc.graph.frame import Frame
from mlff_calc.potential import build_potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.fixed_point_step import MEMORY_INPUTS, MEMORY_OUTPUTS, FixedPointStep, StepSizes

OUTPUTS = ("energy", "energies", "forces", "virial", "atomic_virial", "stress")


def make_potential(repulsion: dict | None = None) -> FixedPointPotential:
    backbone = {
        "name": "deq", "block": "equiformer", "prelude": 0, "cutoff": 4.0,
        "channels": 4, "l_max": 1, "heads": 2, "edge_channels": 8, "feedback": 0.3,
        "tolerance": 1e-11, "max_evaluations": 200,
    }  # fmt: skip
    config = {"backbone": backbone, "elements": ["H", "O"], "repulsion": repulsion}
    potential = build_potential(config, seed=7)
    generator = torch.Generator().manual_seed(1)
    for parameter in potential.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return potential.eval().to_precision("float64")


@pytest.fixture(scope="module")
def potential() -> FixedPointPotential:
    return make_potential()


def water(time: float = 0.0) -> Atoms:
    """Return a molecule on a smooth path."""
    atoms = molecule("H2O")
    generator = np.random.default_rng(0)
    atoms.positions += 0.1 * generator.normal(size=(3, 3))
    atoms.positions += 0.2 * np.sin(0.05 * time + generator.uniform(0.0, 6.0, size=(3, 3)))
    return atoms


def graph_of(atoms: Atoms) -> Graph:
    return graph_from_atoms(atoms, 4.0)


def solved(potential: FixedPointPotential, graph: Graph) -> dict[str, Tensor]:
    """Return the outputs of a converged solve, and the embedding."""
    out = potential(graph)
    with torch.no_grad():
        out["embedding"] = potential.backbone.prepare(potential.inputs(graph, graph["edge_vec"]))[0]
    return out


def memory_of(potential: FixedPointPotential, predictor: Predictor, times: list[float]) -> Memory:
    """Return the memory after converged solves at these times."""
    atoms = water()
    place = Frame.of(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    memory = Memory(place)
    for time in times:
        memory.remember(predictor, 0, solved(potential, graph_of(water(time))), place, None)
    return memory


def cold_inputs(graph: Graph, potential: FixedPointPotential, window: int = 0, kept: int = 0) -> Graph:
    """Return a graph with an empty memory."""
    shape = (graph["atomic_numbers"].shape[0], 4, potential.backbone.channels)
    inputs = {name: torch.zeros(window, *shape, dtype=torch.float64) for name in MEMORY_INPUTS[:3]}
    inputs["mix"] = torch.zeros(window, dtype=torch.float64)
    inputs["ridges"] = torch.tensor([1e-13, 1e-12], dtype=torch.float64)
    for name in MEMORY_INPUTS[5:]:
        inputs[name] = torch.zeros(2, kept, *shape, dtype=torch.float64)
    return {**graph, **inputs}


def error(found: dict[str, Tensor], exact: dict[str, Tensor], key: str = "forces") -> float:
    return float((found[key] - exact[key]).norm())


@pytest.mark.parametrize("repulsion", [None, {"name": "zbl", "reach": 1.5}], ids=["plain", "repulsion"])
def test_a_step_from_a_converged_memory_is_the_converged_solve(repulsion: dict | None) -> None:
    """One evaluation of each kind gives all outputs to within the residual of the memory."""
    potential, predictor = make_potential(repulsion), polynomial(0)
    graph = graph_of(water(3.0))
    exact = solved(potential, graph)
    inputs, _ = memory_of(potential, predictor, [3.0]).inputs(predictor, 0)
    found = FixedPointStep(potential, StepSizes(1, 1, 1, 0))({**graph, **inputs})
    assert float(found["residual"]) < potential.backbone.tolerance
    assert float(found["adjoint_residual"]) < potential.backbone.tolerance
    for key in OUTPUTS:
        torch.testing.assert_close(found[key], exact[key], rtol=1e-9, atol=1e-10)
    for key in ("state", "adjoint", "embedding"):
        torch.testing.assert_close(found[key], exact[key], rtol=0.0, atol=1e-9)


def test_outputs_have_the_shapes_that_memories_take(potential: FixedPointPotential) -> None:
    graph = graph_of(water())
    found = FixedPointStep(potential, StepSizes(3, 4, 0, 0))(cold_inputs(graph, potential))
    assert set(found) == {*OUTPUTS, *MEMORY_OUTPUTS}
    assert found["residual"].shape == found["adjoint_residual"].shape == (1,)
    assert found["new_state_secants"].shape == (2, 2, 3, 4, 4)
    assert found["new_adjoint_secants"].shape == (2, 3, 3, 4, 4)
    assert not any(tensor.requires_grad for tensor in found.values())


def test_window_zero_is_cold(potential: FixedPointPotential) -> None:
    """With window zero a step starts at the embedding and at de/dz, like a cold solve."""
    graph = graph_of(water())
    exact = solved(potential, graph)
    one = FixedPointStep(potential, StepSizes(1, 1, 0, 0))(cold_inputs(graph, potential))
    inputs = potential.inputs(graph, graph["edge_vec"])
    prepared = [tensor.detach() for tensor in potential.backbone.prepare(inputs)]
    start = prepared[0].clone().requires_grad_()
    value = potential.backbone.evaluate(start, graph["edge_index"], prepared)
    torch.testing.assert_close(one["state"], value.detach(), rtol=0.0, atol=1e-13)
    gap = (value - start).detach()
    assert float(one["residual"]) == pytest.approx(float(gap.norm() / value.detach().norm()), rel=1e-10)
    (cotangent,) = torch.autograd.grad(potential.read(inputs, start).sum(), start, retain_graph=True)
    (pulled,) = torch.autograd.grad(value, start, cotangent)
    torch.testing.assert_close(one["adjoint"], cotangent + pulled, rtol=0.0, atol=1e-13)
    assert error(one, exact) > 1e-6


def test_more_evaluations_converge(potential: FixedPointPotential) -> None:
    graph = graph_of(water())
    exact, errors = solved(potential, graph), []
    for count in (2, 4, 7, 11, 16):
        found = FixedPointStep(potential, StepSizes(count, count, 0, 0))(cold_inputs(graph, potential))
        errors.append((error(found, exact), error(found, exact, "energy"), float(found["residual"])))
    forces, energy, residual = np.array(errors).T
    for values in (forces, residual):
        assert (np.diff(values) < 0.0).all()
    assert forces[-1] < 1e-5 * forces[0]
    assert energy[-1] < 1e-7 * energy[0]


def test_orders_in_the_error_of_the_memory(potential: FixedPointPotential) -> None:
    """Errors of the force are of first order in the residuals, those of the energy of second order."""
    graph, predictor = graph_of(water()), polynomial(0)
    exact, memory = solved(potential, graph), memory_of(potential, predictor, [0.0])
    step, generator = FixedPointStep(potential, StepSizes(1, 1, 1, 0)), torch.Generator().manual_seed(0)
    inputs, _ = memory.inputs(predictor, 0)
    away = [torch.randn(1, *exact["state"].shape, generator=generator).double() for _ in range(2)]
    sizes, found = 10.0 ** np.arange(-2.0, -4.6, -0.5), []
    for size in sizes:
        moved = {name: inputs[name] + size * inputs[name].abs().mean() * direction
                 for name, direction in zip(("past_states", "past_adjoints"), away, strict=True)}  # fmt: skip
        out = step({**graph, **inputs, **moved})
        found.append((error(out, exact), error(out, exact, "energy"), float(out["residual"])))
    forces, energy, residual = np.log(np.array(found).T)
    assert np.polyfit(residual, forces, 1)[0] == pytest.approx(1.0, abs=0.05)
    assert np.polyfit(residual, energy, 1)[0] == pytest.approx(2.0, abs=0.1)


def test_least_squares_starts_nearer_than_the_previous_step(potential: FixedPointPotential) -> None:
    times, graph = [0.0, 1.0, 2.0, 3.0], graph_of(water(4.0))
    residuals = []
    for predictor in (polynomial(0), polynomial(2), LeastSquares(4)):
        inputs, _ = memory_of(potential, predictor, times).inputs(predictor, 0)
        found = FixedPointStep(potential, StepSizes(1, 1, predictor.window, 0))({**graph, **inputs})
        residuals.append((float(found["residual"]), float(found["adjoint_residual"])))
    for previous, quadratic, least_squares in zip(*residuals, strict=True):
        assert quadratic < 0.2 * previous
        assert least_squares < 0.1 * previous


def test_given_weights_are_used_and_all_zeros_mean_least_squares(potential: FixedPointPotential) -> None:
    predictor = LeastSquares(3)
    inputs, _ = memory_of(potential, predictor, [0.0, 1.0, 2.0]).inputs(predictor, 0, ridges=(1e-13, 1e-6))
    graph, step = graph_of(water(3.0)), FixedPointStep(potential, StepSizes(1, 1, 3, 0))
    fitted = step.mix(step({**graph, **inputs})["embedding"], {**graph, **inputs}).flatten()
    assert float(fitted.sum()) == pytest.approx(1.0, rel=1e-12)
    assert fitted.tolist() == pytest.approx([3.0, -3.0, 1.0], abs=0.3)  # close to those of a parabola
    given = {**inputs, "mix": torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)}
    found = step({**graph, **given})
    start = 2.0 * inputs["past_states"][0] - inputs["past_states"][1]
    alone = {**inputs, "past_states": start.expand(3, -1, -1, -1), "mix": torch.tensor([1.0, 0.0, 0.0]).double()}
    alone["past_adjoints"] = (2.0 * inputs["past_adjoints"][0] - inputs["past_adjoints"][1]).expand(3, -1, -1, -1)
    torch.testing.assert_close(found["forces"], step({**graph, **alone})["forces"], rtol=0.0, atol=1e-12)


def test_secants_of_the_step_before_accelerate(potential: FixedPointPotential) -> None:
    predictor, kept = polynomial(0), 6
    memory = memory_of(potential, predictor, [0.0])
    step = FixedPointStep(potential, StepSizes(4, 4, 1, kept))
    residuals = []
    for time in (1.0, 2.0):
        graph = graph_of(water(time))
        inputs, start = memory.inputs(predictor, kept)
        found = step({**graph, **inputs})
        without = {**inputs, **{name: torch.zeros_like(inputs[name]) for name in ("state_secants", "adjoint_secants")}}
        plain = step({**graph, **without})
        residuals.append([float(out[key]) for key in ("residual", "adjoint_residual") for out in (found, plain)])
        memory.remember(predictor, kept, found, memory.place, start)
    first, second = residuals
    assert first[0] == first[1]
    assert first[2] == first[3]
    assert second[0] < 0.5 * second[1]
    assert second[2] < 0.5 * second[3]


def test_the_graph_and_the_memory_are_not_changed(potential: FixedPointPotential) -> None:
    predictor = LeastSquares(2)
    inputs, _ = memory_of(potential, predictor, [0.0, 1.0]).inputs(predictor, 2)
    graph = {**graph_of(water(2.0)), **inputs}
    before = {name: tensor.clone() for name, tensor in graph.items()}
    FixedPointStep(potential, StepSizes(2, 2, 2, 2))(graph)
    assert graph.keys() == before.keys()
    assert all(torch.equal(graph[name], tensor) for name, tensor in before.items())
