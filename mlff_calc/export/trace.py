"""A potential as one flat graph of tensor operations, backward pass included, with dynamic numbers of atoms and edges.

Compilers cannot see into `torch.autograd.grad`, so the energy and its gradient are traced together. The resulting graph
has no autograd in it and can be compiled, exported or differentiated again (for training) like any forward pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dynamo import config as dynamo_config
from torch.func import functional_call
from torch.fx.experimental import _config as fx_config
from torch.fx.experimental.proxy_tensor import make_fx

from mlff_calc.potential import Potential
from mlff_calc.potential.fixed_point import FixedPointPotential

INPUTS = ("atomic_numbers", "system_index", "edge_index", "edge_vec", "cell")
GRADIENT_OUTPUTS = ("energy", "energies", "forces", "virial", "atomic_virial", "stress")
DIRECT_OUTPUTS = ("energy", "energies", "forces")


def output_names(potential: Potential) -> tuple[str, ...]:
    """Names of the outputs of a potential, in the order of compiled graphs."""
    return (*(DIRECT_OUTPUTS if potential.direct_forces else GRADIENT_OUTPUTS), *potential.uncertainties)


def training_outputs(potential: Potential) -> tuple[str, ...]:
    """The same in training, where heads of errors give logits."""
    logits = [head.logits for head in potential.error_heads]
    return (*(name for name in output_names(potential) if name not in potential.uncertainties), *logits)


class _Flat(nn.Module):
    """Adapts a module from dict to dict to a function of tensors, for tracing."""

    def __init__(self, module: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.inputs, self.outputs = inputs, outputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        out = self.module(dict(zip(self.inputs, tensors, strict=True)))
        return tuple(out[name] for name in self.outputs)


def trace_for_use(
    module: nn.Module, example: dict[str, Tensor], inputs: Sequence[str], outputs: Sequence[str]
) -> fx.GraphModule:
    """Trace a module from dict to dict as a graph from named inputs to named outputs, with the weights as constants."""
    frozen = copy.deepcopy(module).eval().requires_grad_(False)
    return _clean(_record(_Flat(frozen, inputs, outputs), [example[key] for key in inputs]))


FROM_DATA = "norm"
"""Name of module attributes that depend on training data: one over the root of the mean number of neighbours."""


def trace_for_training(
    potential: Potential, example: dict[str, Tensor]
) -> tuple[fx.GraphModule, list[nn.Parameter], list[Tensor], tuple[str, ...]]:
    """Trace a training step as one graph from (parameters, numbers from data, `training_inputs`) to outputs.

    Numbers from data are inputs and not constants, so that compilers find code made for other data in their cache.

    Returns:
        The graph, its parameters and numbers in order, and the names of its outputs.
    """
    named = {name: parameter for name, parameter in potential.named_parameters() if parameter.requires_grad}
    inputs, outputs = training_inputs(potential, example), training_outputs(potential)
    if "probe" in inputs:
        outputs = (*outputs, "growth", "probe")
    module = FromSolution(potential) if isinstance(potential, FixedPointPotential) else potential
    prefix = "potential." if module is not potential else ""
    told = [part for part in potential.modules() if isinstance(getattr(part, FROM_DATA, None), float)]
    device = example["edge_vec"].device
    numbers = [torch.tensor(getattr(part, FROM_DATA), dtype=torch.float64, device=device) for part in told]

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        weights = {prefix + name: tensor for name, tensor in zip(named, tensors[: len(named)], strict=True)}
        given = tensors[len(named) : len(named) + len(told)]
        graph = dict(zip(inputs, tensors[len(named) + len(told) :], strict=True))
        with _set(told, given):
            out = functional_call(module, weights, (graph,))
        return tuple(out[name] for name in outputs)

    stand_ins = [parameter.detach().clone().requires_grad_() for parameter in named.values()]
    tensors: Sequence[Tensor] = [*stand_ins, *numbers, *(example[key] for key in inputs)]
    traced = _record(call, tensors)
    _attach(traced)
    return _clean(traced), list(named.values()), numbers, outputs


@contextmanager
def _set(parts: Sequence[nn.Module], numbers: Sequence[Tensor]) -> Iterator[None]:
    """Replace the numbers from data of modules by tensors, inside the `with` block."""
    before = [getattr(part, FROM_DATA) for part in parts]
    for part, number in zip(parts, numbers, strict=True):
        setattr(part, FROM_DATA, number)
    try:
        yield
    finally:
        for part, number in zip(parts, before, strict=True):
            setattr(part, FROM_DATA, number)


def training_inputs(potential: Potential, example: dict[str, Tensor]) -> tuple[str, ...]:
    """Return the inputs of a graph for training; a fixed point adds its solution, and a probe where the example has one."""
    if not isinstance(potential, FixedPointPotential):
        return INPUTS
    return (*INPUTS, "state", "adjoint", *(key for key in ("probe", "dropout") if key in example))


class FromSolution(nn.Module):
    """The computation of a fixed-point potential that follows its solve."""

    def __init__(self, potential: FixedPointPotential) -> None:
        super().__init__()
        self.potential = potential

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the outputs for the solution in the graph (`state` and `adjoint`)."""
        return self.potential.outputs(graph, graph["state"], graph["adjoint"])


def record_forward(call: Callable[..., Any], tensors: Sequence[Tensor]) -> fx.GraphModule:
    """Record the operations of a function without derivatives, so that the graph can be differentiated."""
    traced = _record(call, tensors)
    _attach(traced)
    return _clean(traced)


def _record(call: Callable[..., tuple[Tensor, ...]], tensors: Sequence[Tensor]) -> fx.GraphModule:
    """Record the operations of `call`, with a separate symbol for every size.

    By default, sizes that are equal in the example share a symbol: a batch with as many systems as degrees, or as many
    atoms as channels, would tie the sizes of later batches to those of the weights.
    """
    with fx_config.patch(use_duck_shape=False), without_fake_cache():  # type: ignore[attr-defined]  # made at import
        return make_fx(call, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*tensors)


def without_fake_cache() -> AbstractContextManager[Any]:
    """Record without PyTorch's cache of operations, which costs more than it saves where sizes are symbols."""
    return dynamo_config.patch(fake_tensor_cache_enabled=False)  # type: ignore[attr-defined]  # made at import


def _attach(traced: fx.GraphModule) -> None:
    """Remove the detach nodes, so that the graph keeps the derivatives of its results.

    Autograd saves the results of functions such as exp and rsqrt for its backward pass, and a trace shows these copies
    as detached. Forces would then be right, but their gradients with respect to the weights would lack every path
    through such a result.
    """
    for node in list(traced.graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)


def _clean(traced: fx.GraphModule) -> fx.GraphModule:
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced
