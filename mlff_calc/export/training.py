"""Compilation of a potential for training: forces are inside the graph, and gradients to the weights flow through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mlff_calc.errors import OptionError
from mlff_calc.export.announce import announced
from mlff_calc.export.check import compare, compare_gradients, in_double
from mlff_calc.export.compiled import require_compiler
from mlff_calc.export.trace import FromSolution, trace_for_training, training_inputs
from mlff_calc.export.training_solve import CompiledSolve
from mlff_calc.potential import Potential
from mlff_calc.potential.fixed_point import FixedPointPotential


def compile_for_training(
    potential: Potential, example: dict[str, Tensor]
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Compile a potential to a function from a batched graph to outputs, differentiable once by the weights.

    Args:
        potential: potential in training mode; its parameters are read at every call.
        example: batch of at least two systems. Later batches may have other sizes; batches of one system use the eager
            potential. If the example has a `probe`, batches with and without one are accepted.

    Raises:
        OptionError: there is no C++ compiler.
        ExportError: outputs or gradients on `example` differ from those of the eager potential.
    """
    require_compiler()
    with announced(potential, example["edge_vec"].device, "a training step"):
        return _compile_all(potential, example)


def _compile_all(
    potential: Potential, example: dict[str, Tensor]
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    solve = None
    eager: nn.Module = potential
    if isinstance(potential, FixedPointPotential):
        if potential.implicit_training:
            raise OptionError(
                "implicit gradients of a fixed point cannot be compiled; set trainer.compile: false, or gradient: phantom"
            )
        solve = CompiledSolve(potential, example)
        found = solve(example)
        example = {**example, "state": found["state"], "adjoint": found["adjoint"]}
        eager = FromSolution(potential)
    examples = [example]
    if "probe" in example:
        examples.append({name: value for name, value in example.items() if name != "probe"})
    runs = {"probe" in one: _compiled(potential, one, eager) for one in examples}

    def run(graph: dict[str, Tensor]) -> dict[str, Tensor]:
        return runs["probe" in graph](graph)

    def call(graph: dict[str, Tensor]) -> dict[str, Tensor]:
        if graph["cell"].shape[0] < 2:
            return potential(graph)
        if solve is None:
            return run(graph)
        found = solve(graph)
        return found | run(graph | found)

    return call


def _compiled(
    potential: Potential, example: dict[str, Tensor], eager: nn.Module
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Compile the graph for batches with the keys of `example`, and compare it with `eager`."""
    traced, parameters, numbers, names = trace_for_training(potential, example)
    inputs = training_inputs(potential, example)
    compiled = torch.compile(traced, dynamic=True, fullgraph=True)

    def run(graph: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(names, compiled(*parameters, *numbers, *[graph[key] for key in inputs]), strict=True))

    _check(eager, run, potential.precision, parameters, example)
    return run


def _check(
    eager: nn.Module,
    compiled: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    precision: str,
    parameters: Sequence[nn.Parameter],
    example: dict[str, Tensor],
) -> None:
    """Compare one training step with the eager one, since compilers have been silently wrong.

    Raises:
        ExportError: outputs or gradients differ.
    """
    what = "compiled training graph"
    outputs, gradients = [], []
    for forward in (eager, compiled):
        out = forward(example)
        n_atoms = out["forces"].shape[0]
        loss = (out["forces"] ** 2).sum() / n_atoms + out["energies"].sum() / n_atoms
        loss = loss + sum(value.square().mean() for name, value in out.items() if name.endswith("_logits"))
        if "growth" in out:
            loss = loss + out["growth"].sum()
        gradients.append(torch.autograd.grad(loss, parameters, allow_unused=True))
        outputs.append({name: value.detach() for name, value in out.items()})
    compare(outputs[0], outputs[1], precision, what, in_double(eager, example))
    compare_gradients(gradients[0], gradients[1], precision, what)
