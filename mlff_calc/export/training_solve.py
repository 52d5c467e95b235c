"""Compiled solves of a training step: f and its derivative by z are compiled once and called by the solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._functorch.config as autograd_config
from torch import Tensor, nn
from torch.func import functional_call

from mlff_calc.export.check import compare
from mlff_calc.export.trace import record_forward
from mlff_calc.potential.fixed_point import FixedPointPotential

GEOMETRY = ("species", "edge_index", "edge_vec", "dropout")
"""Inputs of the constants of f; the last one only where the example has it."""


class CompiledSolve:
    """Compiled version of `FixedPointPotential.solve`, which reads the weights at every call.

    Args:
        potential: potential in training mode.
        example: batch of at least two systems.
    """

    def __init__(self, potential: FixedPointPotential, example: dict[str, Tensor]) -> None:
        self.potential = potential
        backbone = potential.backbone
        inputs = potential.inputs(example, example["edge_vec"])
        self._geometry = [key for key in GEOMETRY if key in inputs]
        self._prepare = _Compiled(_Prepare(backbone, self._geometry), [inputs[key] for key in self._geometry])
        with torch.no_grad():
            prepared = backbone.prepare(inputs)
        self._map = _Compiled(_Map(backbone), [prepared[0], inputs["edge_index"], *prepared])
        self._read = _Compiled(_Read(potential), [prepared[0], inputs["species"]])
        self._check(inputs, prepared)

    def _check(self, inputs: dict[str, Tensor], prepared: list[Tensor]) -> None:
        """Compare with eager results.

        Raises:
            ExportError: f, its derivative by z, or the energies differ.
        """
        here = prepared[0].detach().requires_grad_()
        found = []
        with autograd_config.patch(donated_buffer=False):
            for once in (
                self._map(here, inputs["edge_index"], *self._prepare(*(inputs[key] for key in self._geometry))),
                self.potential.backbone.evaluate(here, inputs["edge_index"], prepared),
            ):
                pulled = torch.autograd.grad(once, here, prepared[0])[0]
                found.append({"f": once.detach(), "derivative of f": pulled})
        energies = [self._read(here, inputs["species"]), self.potential.read(inputs, here)]
        for one, other in zip(found, energies, strict=True):
            one["energies"] = other.detach()
        compare(found[1], found[0], self.potential.precision, "compiled fixed-point map")

    def __call__(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Solve for state and adjoint of a batch; see `FixedPointPotential.solve`."""
        # The adjoint solve differentiates one evaluation many times.
        with autograd_config.patch(donated_buffer=False):
            return self._solve(graph)

    def _solve(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        backbone = self.potential.backbone
        inputs = self.potential.inputs(graph, graph["edge_vec"])
        with torch.no_grad():
            prepared = self._prepare(*(inputs[key] for key in self._geometry))
        last: list[Tensor] = []

        def evaluate(state: Tensor) -> Tensor:
            last[:] = [state.detach().requires_grad_()]
            last.append(self._map(last[0], inputs["edge_index"], *prepared))
            return last[1].detach()

        found = backbone.solve(evaluate, graph.get("start_state", prepared[0]), graph)
        if not torch.equal(found.state, last[0]):
            evaluate(found.state)
        here, value = last
        out = {"state": found.state, "residual": found.residual, "evaluations": found.evaluations}
        if self.potential.direct_forces:
            return out | self.potential.no_adjoint(out)
        return out | self.potential.solve_adjoint(graph, here, value, self._read(here, inputs["species"]))


class _Compiled:
    """A module as a compiled function; weights are constants for autograd and are read at every call."""

    def __init__(self, module: nn.Module, example: Sequence[Tensor]) -> None:
        self.parameters = dict(module.named_parameters())
        names = list(self.parameters)

        def call(*tensors: Tensor) -> Any:
            weights = dict(zip(names, tensors[: len(names)], strict=True))
            return functional_call(module, weights, tuple(tensors[len(names) :]))

        weights = [weight.detach() for weight in self.parameters.values()]
        self.run: Callable[..., Any] = torch.compile(
            record_forward(call, [*weights, *(tensor.detach() for tensor in example)]), dynamic=True, fullgraph=True
        )

    def __call__(self, *tensors: Tensor) -> Any:
        return self.run(*(weight.detach() for weight in self.parameters.values()), *tensors)


class _Prepare(nn.Module):
    def __init__(self, backbone: Any, keys: Sequence[str]) -> None:
        super().__init__()
        self.backbone, self.keys = backbone, keys

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        return self.backbone.prepare(dict(zip(self.keys, tensors, strict=True)))


class _Map(nn.Module):
    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.map = backbone.map

    def forward(self, state: Tensor, edge_index: Tensor, *prepared: Tensor) -> Tensor:
        return self.map(state, edge_index, list(prepared))


class _Read(nn.Module):
    def __init__(self, potential: FixedPointPotential) -> None:
        super().__init__()
        self.potential = potential

    def forward(self, state: Tensor, species: Tensor) -> Tensor:
        return self.potential.read({"species": species}, state)
