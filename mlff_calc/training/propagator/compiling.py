"""Compiling a propagator for training, and comparing it with the eager one before the first step."""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.export.check import compare, compare_gradients, in_double
from mlff_calc.propagator import Propagator
from mlff_calc.training.objective import Forward


def compile_propagator(propagator: Propagator, example: dict[str, Tensor]) -> Forward:
    """Compile the forward and backward pass of a propagator.

    Code is first made for the sizes of the first batch. If other sizes follow, code for any size is made once.

    Args:
        propagator: Propagator in training mode; its parameters are read at every call.
        example: Batch to compare on.

    Raises:
        ExportError: Outputs or gradients on `example` differ from those of the eager propagator.
    """
    compiled = torch.compile(propagator, fullgraph=True)
    what = "compiled propagator"
    parameters = [parameter for parameter in propagator.parameters() if parameter.requires_grad]
    outputs, gradients = [], []
    for forward in (propagator, compiled):
        out = forward(example)
        change = out["positions"] - example["positions"]
        loss = change.square().mean() + sum(
            (value - example[name]).square().mean() for name, value in out.items() if name == "velocities"
        )
        gradients.append(torch.autograd.grad(loss, parameters, allow_unused=True))
        outputs.append({name: value.detach() for name, value in out.items()})
    compare(outputs[0], outputs[1], propagator.precision, what, in_double(propagator, example))
    compare_gradients(gradients[0], gradients[1], propagator.precision, what)

    def run(graph: dict[str, Tensor]) -> dict[str, Tensor]:
        if not propagator.training:
            propagator.train()  # in a validation; training mode changes nothing and avoids a second compilation
        return compiled(graph)

    return run
