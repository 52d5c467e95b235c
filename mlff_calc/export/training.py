"""A potential compiled for training: forces inside the graph, gradients to the weights flow through it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mlff_calc.export.compiled import require_compiler
from mlff_calc.export.trace import INPUTS, trace_for_training
from mlff_calc.potential import Potential


def compile_for_training(
    potential: Potential, example: dict[str, Tensor]
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Return a function that maps a batched graph to outputs, differentiable once with respect to the weights.

    Args:
        potential: in training mode; its parameters are read anew at every call.
        example: a batch of at least two systems; sizes of later batches are free; a batch of one system goes through
            the eager potential.

    Raises:
        OptionError: no C++ compiler.
    """
    require_compiler()
    traced, parameters, names = trace_for_training(potential, example)
    compiled = torch.compile(traced, dynamic=True, fullgraph=True)

    def call(graph: dict[str, Tensor]) -> dict[str, Tensor]:
        if graph["cell"].shape[0] < 2:
            return potential(graph)
        return dict(zip(names, compiled(*parameters, *[graph[key] for key in INPUTS]), strict=True))

    return call
