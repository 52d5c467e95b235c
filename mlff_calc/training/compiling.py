"""Compiling a network as it is for training, and comparing it with the eager one before the first step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mlff_calc.export.check import compare, compare_gradients, in_double
from mlff_calc.graph.keys import Graph
from mlff_calc.networks.base import Network
from mlff_calc.training.objective import Forward

Probe = Callable[[dict[str, Tensor], Graph], Tensor]
"""Function from outputs and inputs to a scalar whose gradients are compared."""


def compile_network(network: Network, example: Graph, probe: Probe) -> Forward:
    """Compile the forward and backward pass of a network without derivatives among its outputs.

    Code is first made for the sizes of the first batch. If other sizes follow, code for any size is made once.

    Args:
        network: Network in training mode; its parameters are read at every call.
        example: Batch to compare on.
        probe: Scalar that depends on all outputs.

    Raises:
        ExportError: Outputs or gradients on `example` differ from those of the eager network.
    """
    compiled = torch.compile(network, fullgraph=True)
    what = f"compiled {network.kind}"
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    outputs, gradients = [], []
    for forward in (network, compiled):
        out = forward(example)
        gradients.append(torch.autograd.grad(probe(out, example), parameters, allow_unused=True))
        outputs.append({name: value.detach() for name, value in out.items()})
    compare(outputs[0], outputs[1], network.precision, what, in_double(network, example))
    compare_gradients(gradients[0], gradients[1], network.precision, what)

    def run(graph: Graph) -> dict[str, Tensor]:
        if not network.training:
            network.train()  # in a validation; training mode changes nothing and avoids a second compilation
        return compiled(graph)

    return run
