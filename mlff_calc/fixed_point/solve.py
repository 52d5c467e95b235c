"""The loop that evaluates f until every system of a batch is solved, and its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.fixed_point.preconditioner import LowRankInverse
from mlff_calc.fixed_point.solvers import Solver
from mlff_calc.fixed_point.state import SolveState


@dataclass(frozen=True)
class Solution:
    """Result of a solve.

    Attributes:
        state: best state of each system [n_rows, width].
        residual: residual of the best state [n_systems].
        evaluations: number of evaluations of each system [n_systems].
        converged: whether each system converged [n_systems].
        residual_history: residuals [n_systems] after each evaluation.
        known: final state of the solver; its secants or low-rank inverse can start the next solve.
        path: states, in the shape of `state`, after the numbers of evaluations in the argument `counts` of `solve`.
    """

    state: Tensor
    residual: Tensor
    evaluations: Tensor
    converged: Tensor
    residual_history: list[Tensor]
    known: SolveState
    path: list[Tensor]


def solve(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    solver: Solver,
    system_index: Tensor | None = None,
    n_systems: int = 1,
    *,
    tolerance: float = 0.0,
    max_evaluations: int = 0,
    known: SolveState | None = None,
    look_every: int = 1,
    preconditioner: LowRankInverse | None = None,
    counts: Sequence[int] = (),
) -> Solution:
    """Find z with z = f(z) for every system of a batch.

    Args:
        function: map f of z [n_rows, ...] in the shape of `start` (the solver itself works on two dimensions).
        start: first z [n_rows, ...].
        solver: method and its options, see `solvers`.
        system_index: system of each row [n_rows]; by default all rows are one system.
        n_systems: number of systems.
        tolerance: tolerance of this solve; 0 for the solver's own.
        max_evaluations: limit of this solve; 0 for the solver's own.
        known: state to begin with instead of `solver.begin` (with secants of an earlier solve, for example); its own
            tolerance and limit apply.
        look_every: number of evaluations between checks of convergence. Each check waits for a GPU. Evaluations beyond
            convergence change nothing in systems that are done.
        preconditioner: inverse Jacobian of an earlier solve of the same rows (see preconditioner.py).
        counts: numbers of evaluations, ascending, after which the next state goes into `Solution.path`; 0 is the start.
            A system that is already done contributes its final state.

    Returns:
        The solution. Systems that did not converge have `converged` False; this raises no error.

    Raises:
        OptionError: the preconditioner does not fit the rows, or is given together with `known`.
    """
    shape, width = start.shape, math.prod(start.shape[1:])
    if system_index is None:
        system_index = torch.zeros(shape[0], dtype=torch.long, device=start.device)
    if known is None:
        rows = start.reshape(shape[0], width)
        known = solver.begin(rows, system_index, n_systems, tolerance, max_evaluations, preconditioner)
    elif preconditioner is not None:
        raise OptionError("`known` and `preconditioner` are both given to a solve; give the preconditioner to `begin`")
    history: list[Tensor] = []
    path: list[Tensor] = []
    for evaluation in range(known.limit):
        if evaluation in counts:
            path.append(known.z.view(shape))
        value = function(known.z.view(shape))
        known = solver.tell(known, value.reshape(shape[0], width))
        history.append(known.residual)
        if (evaluation + 1) % look_every == 0 and bool(known.done.all()):
            break
    best = known.best.view(shape)
    path += [best] * (len(counts) - len(path))
    return Solution(best, known.best_residual, known.evaluations, known.converged, history, known, path)
