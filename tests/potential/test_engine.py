"""Memories as rows of atoms: an `EngineStep` gives the same steps as a `FixedPointStep` with a `Memory`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlff_calc.fixed_point.memory import Memory
from mlff_calc.fixed_point.predictors import LeastSquares
from mlff_calc.graph import Graph
from mlff_calc.graph.frame import Frame
from mlff_calc.potential.engine import COLD, CONTINUE, PREDICT, EngineStep
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.fixed_point_step import FixedPointStep, StepSizes

from .test_fixed_point_step import OUTPUTS, cold_inputs, graph_of, make_potential, water

WINDOW, KEPT = 4, 4
SIZES = StepSizes(n_forward=3, n_adjoint=2, window=WINDOW, kept=KEPT)
RULE = LeastSquares(WINDOW)
RIDGES = (1e-7, 1e-6)
SOLUTIONS = (
    "embedding",
    "state",
    "adjoint",
    "residual",
    "adjoint_residual",
    "new_state_secants",
    "new_adjoint_secants",
)


@pytest.fixture(scope="module")
def potential() -> FixedPointPotential:
    return make_potential({"name": "zbl", "reach": 1.5})


def called(engine: EngineStep, graph: Graph, memory: Tensor, mode: float) -> dict[str, Tensor]:
    control = torch.tensor([mode, *RIDGES, 0.0], dtype=torch.float64)
    return engine({**graph, "memory": memory, "control": control})


def rows(engine: EngineStep, n_atoms: int, fill: float = 0.0) -> Tensor:
    """Return a memory filled with noise or with one number."""
    noise = torch.randn(n_atoms, engine.slots, engine.width, generator=torch.Generator().manual_seed(4)).double()
    return torch.full_like(noise, fill) if fill else noise


def cold(potential: FixedPointPotential, graph: Graph) -> dict[str, Tensor]:
    """Return a step with an empty memory."""
    step = FixedPointStep(potential, SIZES._replace(window=0, kept=0))
    return step(cold_inputs(graph, potential) | {"ridges": torch.tensor(RIDGES, dtype=torch.float64)})


def after_cold(outputs: dict[str, Tensor]) -> Memory:
    """Return the rows that an engine keeps of a cold step: its solution in all places of the window, and its secants."""
    atoms = water()
    place = Frame.of(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    memory = Memory(place)
    alone = {name: outputs[name] for name in ("embedding", "state", "adjoint")}
    for _ in range(WINDOW - 1):
        memory.remember(RULE, KEPT, alone, place, None)
    memory.remember(RULE, KEPT, outputs, place, None)
    return memory


def same_steps(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name in (*OUTPUTS, *SOLUTIONS):
        torch.testing.assert_close(found[name], expected[name], rtol=0.0, atol=1e-12)
    residuals = torch.cat([expected["residual"], expected["adjoint_residual"]])
    torch.testing.assert_close(found["residuals"], residuals, rtol=0.0, atol=1e-12)


def same_memory(engine: EngineStep, found: Tensor, memory: Memory) -> None:
    """Assert that the rows contain, slot by slot, the inputs that the memory gives to the next step."""
    inputs, _ = memory.inputs(RULE, KEPT, WINDOW, RIDGES)
    secants = [inputs[name].flatten(0, 1) for name in ("state_secants", "adjoint_secants")]
    parts = [inputs["past_embeddings"], inputs["past_states"], inputs["past_adjoints"], *secants]
    expected = torch.cat(parts).transpose(0, 1).flatten(2)
    assert found.shape == (3, engine.slots, engine.width) == expected.shape
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("fill", [0.0, float("nan"), float("inf")], ids=["noise", "nan", "infinity"])
def test_a_cold_step_ignores_the_memory(potential: FixedPointPotential, fill: float) -> None:
    engine, graph = EngineStep(FixedPointStep(potential, SIZES)), graph_of(water())
    expected = cold(potential, graph)
    found = called(engine, graph, rows(engine, 3, fill), COLD)
    same_steps(found, expected)
    same_memory(engine, found["memory"], after_cold(expected))


@pytest.mark.parametrize("of_an_engine", [False, True], ids=["whole", "node_numbers"])
def test_a_trajectory(potential: FixedPointPotential, of_an_engine: bool) -> None:
    """In ten steps every place of the ring is overwritten more than once; node_numbers switch the sums on."""
    step = FixedPointStep(potential, SIZES)
    engine = EngineStep(step)
    first = cold(potential, graph_of(water()))
    memory, found = after_cold(first), called(engine, graph_of(water()), rows(engine, 3), COLD)
    for time in range(1, 11):
        graph = graph_of(water(float(time)))
        inputs, start = memory.inputs(RULE, KEPT, WINDOW, RIDGES)
        assert start is None
        expected = step({**graph, **inputs})
        memory.remember(RULE, KEPT, expected, memory.place, None)
        if of_an_engine:
            graph["node_numbers"] = graph["atomic_numbers"]
        found = called(engine, graph, found["memory"], PREDICT)
        same_steps(found, expected)
        same_memory(engine, found["memory"], memory)
    assert float(found["residuals"].max()) < 1e-2 * float(first["residual"])  # the memory improves the start


@pytest.mark.parametrize(("repeats", "later"), [(1, (8.0, 9.0)), (2, ())], ids=["and-then-further", "twice"])
def test_going_on_replaces_the_newest(potential: FixedPointPotential, repeats: int, later: tuple[float, ...]) -> None:
    """In the middle of a trajectory, a position is evaluated again before the next one.

    The second repetition solves to rounding. Its secants are differences of rounding errors, and steps after it are not the
    same on all processors.
    """
    step = FixedPointStep(potential, SIZES)
    engine = EngineStep(step)
    memory, found = (
        after_cold(cold(potential, graph_of(water()))),
        called(engine, graph_of(water()), rows(engine, 3), COLD),
    )
    residuals = []
    times = [(1.0, False), (2.0, False), (7.0, False), *[(7.0, True)] * repeats, *[(time, False) for time in later]]
    for time, again in times:
        graph = graph_of(water(time))
        inputs, _ = memory.inputs(RULE, KEPT, WINDOW, RIDGES)
        if again:
            inputs["mix"] = torch.tensor([1.0, *[0.0] * (WINDOW - 1)], dtype=torch.float64)
            for kept in (memory.past.solutions, memory.past.embeddings):
                del kept[0]
        expected = step({**graph, **inputs})
        memory.remember(RULE, KEPT, expected, memory.place, None)
        found = called(engine, graph, found["memory"], CONTINUE if again else PREDICT)
        same_steps(found, expected)
        same_memory(engine, found["memory"], memory)
        residuals.append(float(found["residuals"].max()))
    for k in range(3, 3 + repeats):
        assert residuals[k] < 0.1 * residuals[k - 1]


def test_the_start_of_a_run_is_nearly_that_of_the_calculators(potential: FixedPointPotential) -> None:
    """If there are fewer steps than the window, an engine repeats the oldest step and a `Memory` the newest.

    With up to two steps the starts are equal. With three, the oldest step counts twice and the ridge of the fit differs,
    which changes the start within its error.
    """
    step = FixedPointStep(potential, SIZES)
    engine = EngineStep(step)
    first = cold(potential, graph_of(water()))
    memory, found = Memory(after_cold(first).place), called(engine, graph_of(water()), rows(engine, 3), COLD)
    memory.remember(RULE, KEPT, first, memory.place, None)
    for time in range(1, 8):
        graph = graph_of(water(float(time)))
        expected = step({**graph, **memory.inputs(RULE, KEPT, WINDOW, RIDGES)[0]})
        memory.remember(RULE, KEPT, expected, memory.place, None)
        found = called(engine, graph, found["memory"], PREDICT)
        bar = 1e-12 if time <= 2 else 0.1 * float(expected["residual"])
        assert float((found["forces"] - expected["forces"]).abs().max()) < bar


def test_memories_have_the_size_that_they_say(potential: FixedPointPotential) -> None:
    engine = EngineStep(FixedPointStep(potential, SIZES))
    assert engine.slots == 3 * WINDOW + 4 * KEPT
    assert engine.width == 4 * potential.backbone.channels
    graph = graph_of(water())
    memory = rows(engine, 3)
    before = memory.clone()
    called(engine, graph, memory, PREDICT)
    assert torch.equal(memory, before)
