"""Derivatives of a fixed point, of any order, without the tape of its solve.

With z* = f(z*, t), J = df/dz at z*, and a cotangent c,

    u = c + J^T u    (a fixed-point problem again),    c^T dz*/dt = u^T df/dt.

The backward pass solves for u with the same machinery as the forward pass, so it can be differentiated again. Losses on
forces, which are first derivatives themselves, can therefore be trained.

| symbol | name in code |
|---|---|
| z* | `state` |
| t (weights, geometry) | `tensors` |
| c, u | `cotangent`, `adjoint` |

Source: Bai, Kolter, Koltun, "Deep equilibrium models" (2019), Theorem 1; Fung et al., "JFB" (2022) and Geng et al., "On
training implicit models" (2021) for the truncated (phantom) gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]
LinearSolve = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]


def attach(function: Function, state: Tensor, tensors: Sequence[Tensor], solve_adjoint: LinearSolve) -> Tensor:
    """Attach the derivatives of the fixed point to a solution that was found without a tape.

    Args:
        function: `f(z, *tensors)`, differentiable as often as needed.
        state: z*, solved for without gradients.
        tensors: the tensors f depends on besides z, and with respect to which gradients are wanted.
        solve_adjoint: solver that takes the map u -> c + J^T u and a start, and returns its fixed point (also without a
            tape).

    Returns:
        z* with unchanged values, differentiable with respect to `tensors`.
    """
    return _FixedPoint.apply(function, solve_adjoint, state.detach(), *tensors)


class _FixedPoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, solve_adjoint: LinearSolve, state: Tensor, *tensors: Tensor) -> Tensor:
        ctx.function, ctx.solve_adjoint = function, solve_adjoint
        out = state.clone()
        ctx.save_for_backward(out, *tensors)
        return out

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        state, *tensors = ctx.saved_tensors
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        function, solve_adjoint = ctx.function, ctx.solve_adjoint

        def transposed(adjoint: Tensor, *rest: Tensor) -> Tensor:
            """Map u to c + J^T u."""
            return rest[0] + pullback(function, adjoint, rest[1], rest[2:])[0]

        with torch.no_grad():
            flat = [tensor.detach() for tensor in (cotangent, state, *tensors)]
            adjoint = solve_adjoint(lambda guess: transposed(guess, *flat).detach(), flat[0])
        if torch.is_grad_enabled():  # second derivatives will be needed
            adjoint = attach(transposed, adjoint, (cotangent, state, *tensors), solve_adjoint)
        found = pullback(function, adjoint, state, tensors, wanted)[1]
        gradients: list[Tensor | None] = [None] * len(tensors)
        for i, gradient in zip(wanted, found, strict=True):
            gradients[i] = gradient
        return None, None, None, *gradients


def pullback(
    function: Function, adjoint: Tensor, state: Tensor, tensors: Sequence[Tensor], wanted: Sequence[int] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Compute the partial derivatives u^T df/dz and u^T df/dt at (z, t), differentiable where gradients are enabled.

    Args:
        function: `f(z, *tensors)`.
        adjoint: u.
        state: z.
        tensors: t.
        wanted: indices of the entries of `tensors` to differentiate by; None for z alone.

    Returns:
        The derivative by z (zeros where `wanted` is given), and the derivatives by the wanted tensors.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        here = state.view_as(state) if state.requires_grad else state.detach().requires_grad_()
        # Views cut the tape: z depends on t too, but a partial derivative must not follow that dependence.
        views = [tensor.view_as(tensor) for tensor in tensors]
        if wanted is not None:
            views = [
                view if tensor.requires_grad or i not in wanted else tensor.detach().requires_grad_()
                for i, (view, tensor) in enumerate(zip(views, tensors, strict=True))
            ]
        value = function(here, *views)
        inputs = [here] if wanted is None else [views[i] for i in wanted]
        found = torch.autograd.grad(value, inputs, adjoint, create_graph=again, allow_unused=True)
    filled = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]
    return (filled[0], []) if wanted is None else (torch.zeros_like(state), filled)


def unroll(function: Function, state: Tensor, tensors: Sequence[Tensor], steps: int, damping: float = 1.0) -> Tensor:
    """Apply f to `state` for a number of damped steps while recording the tape (the phantom gradient).

    Args:
        function: `f(z, *tensors)`.
        state: z*, detached by the caller.
        tensors: further arguments of f.
        steps: number of recorded evaluations.
        damping: share of the new value in each step, z <- (1 - damping) z + damping f(z).

    Returns:
            The state after the last step.
    """
    for _ in range(steps):
        state = state + damping * (function(state, *tensors) - state)
    return state
