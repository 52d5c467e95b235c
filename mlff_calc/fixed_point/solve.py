"""The loop over evaluations of f, the only one, and what it returns."""

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
    """What a solve found.

    Attributes:
        state: [n_rows, width], the best seen of each system. residual, evaluations, converged: [n_systems], as of `Solver`.
        residual_history: residuals [n_systems] after each evaluation.
        known: all the solver knew at the end; its secants or low-rank inverse can start the next solve.
        path: states like `state` after the numbers of evaluations that `solve` was asked for.
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
        function: f, of z [n_rows, width] in the shape of `start` (flattened to two dimensions for the solver).
        start: [n_rows, ...].
        solver: see `solvers`.
        system_index: [n_rows]; all rows are one system by default.
        n_systems: number of systems.
        tolerance: for this solve, where it is not to be the solver's own.
        max_evaluations: likewise.
        known: what to begin with instead of `solver.begin` (secants of an earlier solve, for example); it has a tolerance
            and a limit of its own.
        look_every: evaluations between looks at whether all are done; a look waits for a GPU. Extra evaluations change
            nothing in systems that are done.
        preconditioner: inverse Jacobian of an earlier solve of the same rows (see preconditioner.py).
        counts: numbers of evaluations, ascending, after which the state tried next goes into `Solution.path`; 0 is the
            start. A system that was done before has the state it ended with.

    Returns:
        The solution; systems that did not converge have `converged` False, and no error is raised.

    Raises:
        OptionError: a preconditioner of other rows, or beside `known`.
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
