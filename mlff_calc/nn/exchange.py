"""Operators for engines that distribute atoms over processes: ghost atoms between layers, sums over all processes.

A graph of such an engine has `node_numbers` besides `atomic_numbers`; its rows are the engine's own atoms, followed by
ghosts. Features are kept for own atoms only. Before neighbours are read, `exchange` fills in the ghosts, and its
transpose adds their gradients to their owners. Both are PyTorch operators, so they are part of recorded and exported
graphs, and an engine brings its own kernels. The kernels here serve a single process, which owns all atoms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mlff_calc.errors import StructureError


def _same_rows(features: Tensor, other: Tensor) -> Tensor:
    """Kernel for a single process: a copy.

    Raises:
        StructureError: the graph has ghost atoms.
    """
    if features.shape[0] != other.shape[0]:
        raise StructureError(
            f"a graph with {other.shape[0]} nodes and {features.shape[0]} rows of features has ghost atoms, which one "
            "Python process cannot fill; give it a graph without them, or run it in LAMMPS"
        )
    return features.clone(memory_format=torch.contiguous_format)


def _resized(features: Tensor, other: Tensor) -> Tensor:
    return features.new_empty((other.shape[0], *features.shape[1:]))


def _keep_rows(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    del output
    ctx.save_for_backward(inputs[0].new_empty(()).expand(inputs[0].shape[0]))


def _gather_back(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return torch.ops.mlff.exchange_reverse(gradient.contiguous(), ctx.saved_tensors[0]), None


def _register(name: str, arguments: str, kernel: Callable[..., Tensor], fake: Callable[..., Tensor]) -> None:
    """Define an operator unless an engine did so first; its kernels behave like ours while it is idle."""
    if not torch._C._dispatch_has_kernel(name):  # noqa: SLF001 - no public function tells
        torch.library.define(name, f"({arguments}) -> Tensor")
        torch.library.impl(name, "default", kernel)
    torch.library.register_fake(name, fake)


_register("mlff::exchange", "Tensor features, Tensor nodes", _same_rows, _resized)
_register("mlff::exchange_reverse", "Tensor gradient, Tensor atoms", _same_rows, _resized)
_register("mlff::all_sum", "Tensor values", torch.clone, torch.empty_like)
torch.library.register_autograd("mlff::exchange", _gather_back, setup_context=_keep_rows)


def exchange(features: Tensor, nodes: Tensor | None) -> Tensor:
    """Features of all nodes [n_nodes, ...] from those of the engine's own atoms [n_atoms, ...].

    Args:
        features: features of own atoms [n_atoms, ...].
        nodes: any tensor with one row per node; None where one process owns all atoms, and `features` are returned
            unchanged.
    """
    if nodes is None:
        return features
    return torch.ops.mlff.exchange(features, nodes)


def all_sum(values: Tensor) -> Tensor:
    """The sum of a small float64 tensor over the processes of an engine."""
    return torch.ops.mlff.all_sum(values)
