"""A fixed number of accelerated evaluations, written as straight tensor operations for compiled steps.

Along a trajectory the start is so good that two to four evaluations suffice, and their number need not depend on data.
A compiler then sees the whole step. Secants of earlier steps accelerate from the first evaluation on, because the
Jacobian changes slowly in time.

Source: Walker and Ni, "Anderson acceleration for fixed-point iterations" (2011), Eq. 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


def same(values: Tensor) -> Tensor:
    """Sum over processes for a single process: the values themselves."""
    return values


class Unrolled(NamedTuple):
    """Result of `unrolled`.

    Attributes:
        state: z of the last evaluation.
        value: f(z) of the last evaluation, with the tape that f left.
        proposal: z of the next evaluation, a better estimate than `state` and `value` at no further cost.
        residual: |f(z) - z| / |f(z)| of the last evaluation, a float64 scalar.
        secants_z: new changes of z [count - 1, ...].
        secants_g: new changes of f(z) - z [count - 1, ...].
    """

    state: Tensor
    value: Tensor
    proposal: Tensor
    residual: Tensor
    secants_z: Tensor
    secants_g: Tensor


def unrolled(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    count: int,
    secants_z: Tensor,
    secants_g: Tensor,
    ridge: float | Tensor = 1e-8,
    total: Callable[[Tensor], Tensor] = same,
) -> Unrolled:
    """Evaluate f `count` times, each time at the best estimate of the solution so far.

    Args:
        function: map f of z in the shape of `start`, for one system.
        start: first z.
        count: number of evaluations, at least one.
        secants_z: changes of z in earlier solves [k, ...]; k may be zero, and rows of zeros are ignored.
        secants_g: changes of f(z) - z in the same solves [k, ...].
        ridge: ridge of the least-squares problem, relative to secants of length one.
        total: function that sums inner products over the processes that hold parts of the system.
    """
    z, value, gap = start, start, start
    for i in range(count):
        if i:
            step = propose(z, gap, secants_z, secants_g, ridge, total)
        else:
            step = start
        value = function(step)
        new_gap = value.detach() - step
        if i:
            secants_z = torch.cat([secants_z, (step - z).unsqueeze(0)])
            secants_g = torch.cat([secants_g, (new_gap - gap).unsqueeze(0)])
        z, gap = step, new_gap
    squares = total(torch.stack([dot(gap, gap), dot(value.detach(), value.detach())]))
    residual = torch.sqrt(squares[0] / squares[1].clamp(min=1e-60))
    first = secants_z.shape[0] - (count - 1)
    proposal = propose(z, gap, secants_z, secants_g, ridge, total)
    return Unrolled(z, value, proposal, residual, secants_z[first:], secants_g[first:])


def propose(
    z: Tensor,
    gap: Tensor,
    secants_z: Tensor,
    secants_g: Tensor,
    ridge: float | Tensor,
    total: Callable[[Tensor], Tensor] = same,
) -> Tensor:
    """Estimate the root of f(z) - z: a secant step along the known secants and a plain step in all other directions."""
    n = secants_z.shape[0]
    if n == 0:
        return z + gap
    changes = secants_g.flatten(1).double()
    products = total(torch.cat([changes @ changes.T, (changes @ gap.flatten().double()).unsqueeze(1)], dim=1))
    gram = products[:, :n]
    scale = torch.rsqrt(torch.diagonal(gram).clamp(min=1e-60))
    scaled = gram * scale.unsqueeze(0) * scale.unsqueeze(1) + ridge * torch.eye(n, dtype=gram.dtype, device=gram.device)
    right = products[:, n] * scale
    weights = (solve_positive(scaled, right) * scale).to(z.dtype).view(-1, *[1] * z.dim())
    return z + gap - (weights * (secants_z + secants_g)).sum(dim=0)


def least_squares_mix(
    past: Tensor, present: Tensor, ridge: float | Tensor, total: Callable[[Tensor], Tensor] = same
) -> Tensor:
    """Weights [k], with sum one, for which the combination of `past` [k, ...] comes nearest to `present` [...].

    Args:
        past: earlier embeddings, newest first; rows equal to the newest get no weight.
        present: present embedding.
        ridge: ridge relative to the trace of the normal equations.
        total: function that sums inner products, see `unrolled`.
    """
    k = past.shape[0]
    if k == 1:
        return torch.ones(1, dtype=torch.float64, device=past.device)
    newest = past[0].flatten().double()
    changes = past[1:].flatten(1).double() - newest
    right = changes @ (present.flatten().double() - newest)
    products = total(torch.cat([changes @ changes.T, right.unsqueeze(1)], dim=1))
    gram, right = products[:, : k - 1], products[:, k - 1]
    eye = torch.eye(k - 1, dtype=gram.dtype, device=gram.device)
    trace = torch.diagonal(gram).sum()
    weights = solve_positive(gram + (ridge * trace + 1e-300) * eye, right)
    return torch.cat([1.0 - weights.sum().unsqueeze(0), weights])


def solve_positive(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve a small positive definite system [k, k] by explicit elimination, which a compiler can fuse."""
    k = right.shape[0]
    rows = [[matrix[i, j] for j in range(k)] for i in range(k)]
    values = [right[i] for i in range(k)]
    for i in range(k):
        for j in range(i + 1, k):
            factor = rows[j][i] / rows[i][i]
            for m in range(i + 1, k):
                rows[j][m] = rows[j][m] - factor * rows[i][m]
            values[j] = values[j] - factor * values[i]
    found: list[Tensor] = [values[0]] * k
    for i in reversed(range(k)):
        total = values[i]
        for j in range(i + 1, k):
            total = total - rows[i][j] * found[j]
        found[i] = total / rows[i][i]
    return torch.stack(found)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product, in float64."""
    return (a.double() * b.double()).sum()
