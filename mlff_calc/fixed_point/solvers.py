"""Solvers of z = f(z), which are told values of f and return the next z to try.

A solver holds only options. The progress on a problem is a `SolveState`, created by `begin` and replaced by `tell`. The
loop over both is `solve`, used for batches, adjoints and compiled maps alike:

    known = solver.begin(start, system_index, n_systems)
    while not known.done.all():
        known = solver.tell(known, f(known.z))
    solution = known.best

Rows of z belong to systems. Each system has its own residual, mixing weights and stopping point. Once a system is done,
its z stays unchanged and its evaluations are no longer counted, even while other systems of the batch go on.

`begin` accepts the inverse Jacobian of an earlier, similar solve (preconditioner.py); steps are then -B g instead of g.

| symbol | name in code | shape |
|---|---|---|
| z | `z` | [n_rows, width] |
| g = f(z) - z | `gap` | [n_rows, width] |
| dz_i, dg_i (secants) | `secants.z`, `secants.g` | [k, n_rows, width], oldest first |

Sources: Walker and Ni, "Anderson acceleration for fixed-point iterations" (2011), Eq. 2.2 (least squares over differences);
Broyden (1965), and Bai, Kolter, Koltun, "Deep equilibrium models" (2019), Sec. 3 (its low-rank form).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.fixed_point.preconditioner import LowRankInverse, given_inverse, low_rank_product
from mlff_calc.fixed_point.state import Secants, SolveState
from mlff_calc.fixed_point.systems import system_dot, to_rows

TINY = 1e-30
"""Smallest divisor. Smaller norms and overlaps are replaced by it."""


@dataclass(frozen=True)
class Solver(ABC):
    """Base of all solvers: computes residuals, keeps the best state and decides when a system is done.

    Args:
        tolerance: residual below which a system is done.
        relative: measure of the residual: |g| / |f(z)| over the rows of a system if True, the root mean square of g if
            False.
        max_evaluations: limit of evaluations; a system that needs more ends as not converged.
        damping: share of g in a step.

    Raises:
        OptionError: an option out of range.
    """

    tolerance: float = 1e-4
    relative: bool = True
    max_evaluations: int = 50
    damping: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        check_range("tolerance", self.tolerance, self.tolerance > 0.0, "positive")
        check_range("max_evaluations", self.max_evaluations, self.max_evaluations >= 1, "at least 1")
        check_range("damping", self.damping, 0.0 < self.damping <= 1.0, "above 0 and at most 1")

    def begin(
        self,
        start: Tensor,
        system_index: Tensor,
        n_systems: int,
        tolerance: float = 0.0,
        max_evaluations: int = 0,
        preconditioner: LowRankInverse | None = None,
    ) -> SolveState:
        """Create the state before the first evaluation.

        Args:
            start: first z [n_rows, width].
            system_index: system of each row [n_rows].
            n_systems: number of systems.
            tolerance: tolerance of this solve; 0 for the solver's own.
            max_evaluations: limit of this solve; 0 for the solver's own.
            preconditioner: inverse Jacobian of the same rows, from an earlier solve.

        Raises:
            OptionError: the preconditioner does not fit the rows.
        """
        nothing = torch.zeros(n_systems, dtype=torch.bool, device=start.device)
        unknown = torch.full((n_systems,), float("inf"), dtype=torch.float64, device=start.device)
        return SolveState(
            z=start,
            best=start,
            best_residual=unknown,
            residual=unknown,
            evaluations=torch.zeros(n_systems, dtype=torch.long, device=start.device),
            converged=nothing,
            done=nothing,
            system_index=system_index,
            n_systems=n_systems,
            tolerance=tolerance or self.tolerance,
            limit=max_evaluations or self.max_evaluations,
            inverse=preconditioner and given_inverse(preconditioner, start),
        )

    @abstractmethod
    def tell(self, known: SolveState, value: Tensor) -> SolveState:
        """Record `value` = f(z) [n_rows, width] and choose the next z."""

    def judge(self, known: SolveState, value: Tensor) -> SolveState:
        """Update residuals, best states and finished systems with `value` = f(z) [n_rows, width]."""
        index, n_systems, before = known.system_index, known.n_systems, known.done
        gap = value - known.z
        whole = value if self.relative else torch.ones_like(gap)
        square = system_dot(gap.unsqueeze(0), gap, index, n_systems)[0]
        size = system_dot(whole.unsqueeze(0), whole, index, n_systems)[0]
        residual = torch.where(before, known.residual, torch.sqrt(square / size.clamp(min=TINY)))
        better = (residual < known.best_residual) & ~before
        evaluations = known.evaluations + (~before).long()
        converged = known.converged | (residual < known.tolerance)
        return replace(
            known,
            best=torch.where(to_rows(better, index, n_systems).unsqueeze(-1), known.z, known.best),
            best_residual=torch.where(better, residual, known.best_residual),
            residual=residual,
            evaluations=evaluations,
            converged=converged,
            done=converged | (evaluations >= known.limit),
            last=(known.z, gap),
        )

    def move(self, known: SolveState, proposal: Tensor) -> SolveState:
        """Continue at `proposal` [n_rows, width] in the systems that are not done."""
        done = to_rows(known.done, known.system_index, known.n_systems).unsqueeze(-1)
        return replace(known, z=torch.where(done, known.z, proposal))


class Picard(Solver):
    """Plain iteration z <- z + damping * g, or z <- z - damping * B g with a preconditioner."""

    def tell(self, known: SolveState, value: Tensor) -> SolveState:
        """See `Solver.tell`."""
        step = known.preconditioned(value - known.z)
        return self.move(self.judge(known, value), known.z + self.damping * step)


@dataclass(frozen=True)
class Anderson(Solver):
    """Anderson acceleration: the step that would make g smallest if g were linear between the last few states.

    The weights solve one least-squares problem per system, in float64, over secants scaled to length one. Scaling makes
    the ridge relative to the secants at every stage of the solve; an absolute ridge would stop the acceleration near
    the solution. With the `secants` of an earlier, similar solve the first step is accelerated too.

    Args:
        history: number of secants kept.
        ridge: value added to the diagonal of the scaled normal equations.
        tolerance, relative, max_evaluations, damping: options of `Solver`.

    Raises:
        OptionError: an option out of range.
    """

    history: int = 5
    ridge: float = 1e-10

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_range("history", self.history, self.history >= 1, "at least 1")
        check_range("ridge", self.ridge, self.ridge > 0.0, "positive")

    def tell(self, known: SolveState, value: Tensor) -> SolveState:
        """See `Solver.tell`."""
        z, gap, secants = known.z, value - known.z, known.secants
        if known.last is not None:
            step_z, step_g = (z - known.last[0]).unsqueeze(0), (gap - known.last[1]).unsqueeze(0)
            if secants is not None:
                step_z = torch.cat([secants.z, step_z])[-self.history :]
                step_g = torch.cat([secants.g, step_g])[-self.history :]
            secants = Secants(step_z, step_g)
        known = replace(self.judge(known, value), secants=secants)
        proposal = z + self.damping * known.preconditioned(gap)
        if secants is not None:
            proposal = proposal - self.correction(known, secants, gap)
        return self.move(known, proposal)

    def correction(self, known: SolveState, secants: Secants, gap: Tensor) -> Tensor:
        """Compute the part of the step that lies along the secants [n_rows, width], by least squares."""
        index, n_systems = known.system_index, known.n_systems
        k = secants.g.shape[0]
        rows = [system_dot(secants.g, secants.g[i], index, n_systems) for i in range(k)]
        gram = torch.stack(rows).permute(2, 0, 1)
        scale = torch.sqrt(torch.diagonal(gram, dim1=1, dim2=2)).clamp(min=TINY)
        ridge = self.ridge * torch.eye(k, dtype=gram.dtype, device=gram.device)
        right = system_dot(secants.g, gap, index, n_systems).transpose(0, 1) / scale
        scaled = gram / scale.unsqueeze(1) / scale.unsqueeze(2) + ridge
        weights = torch.linalg.solve_ex(scaled, right.unsqueeze(-1))[0].squeeze(-1) / scale
        weights = to_rows(weights.transpose(0, 1), index, n_systems).to(gap.dtype).unsqueeze(-1)
        if known.inverse is None:
            return (weights * (secants.z + self.damping * secants.g)).sum(dim=0)
        along_g = known.preconditioned((weights * secants.g).sum(dim=0))
        return (weights * secants.z).sum(dim=0) + self.damping * along_g


@dataclass(frozen=True)
class Broyden(Solver):
    """Broyden's method: a low-rank inverse Jacobian of g, B = -1 + sum_i u_i v_i^T per system, updated at every step.

    The final B can start other solves (preconditioner.py). A given preconditioner is updated further.

    Args:
        history: largest rank; the oldest terms are dropped first.
        tolerance, relative, max_evaluations, damping: options of `Solver`.

    Raises:
        OptionError: an option out of range.
    """

    history: int = 20

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_range("history", self.history, self.history >= 1, "at least 1")

    def tell(self, known: SolveState, value: Tensor) -> SolveState:
        """See `Solver.tell`."""
        z, gap, index, n_systems = known.z, value - known.z, known.system_index, known.n_systems
        nothing = gap.new_zeros((0, *gap.shape))
        left, right = known.inverse or LowRankInverse(nothing, nothing)
        if known.last is not None:
            step_z, step_g = z - known.last[0], gap - known.last[1]
            image = low_rank_product(left, right, step_g, index, n_systems)
            row = low_rank_product(right, left, step_z, index, n_systems)
            overlap = system_dot(row.unsqueeze(0), step_g, index, n_systems)[0]
            lengths = system_dot(row.unsqueeze(0), row, index, n_systems)[0]
            lengths = torch.sqrt(lengths * system_dot(step_g.unsqueeze(0), step_g, index, n_systems)[0])
            sound = (overlap.abs() > 1e-8 * lengths) & (overlap.abs() > TINY)
            inverse = torch.where(sound, 1.0 / torch.where(sound, overlap, torch.ones_like(overlap)), 0.0)
            new = (step_z - image) * to_rows(inverse, index, n_systems).to(gap.dtype).unsqueeze(-1)
            left = torch.cat([left, new.unsqueeze(0)])[-self.history :]
            right = torch.cat([right, row.unsqueeze(0)])[-self.history :]
        known = replace(self.judge(known, value), inverse=LowRankInverse(left, right))
        return self.move(known, z - self.damping * low_rank_product(left, right, gap, index, n_systems))


SOLVERS = {"picard": Picard, "anderson": Anderson, "broyden": Broyden}


def build_solver(name: str, **options: Any) -> Solver:
    """Build a solver by name (`picard`, `anderson` or `broyden`); options that are None keep their defaults.

    Raises:
        OptionError: the name is unknown or an option is out of range.
    """
    if name not in SOLVERS:
        msg = f"unknown solver {name!r}; choose one of {', '.join(SOLVERS)}"
        raise OptionError(msg)
    return SOLVERS[name](**{key: value for key, value in options.items() if value is not None})


def check_range(name: str, value: float, valid: bool, what: str) -> None:
    """Refuse an option out of range.

    Raises:
        OptionError: `valid` is False.
    """
    if not valid:
        msg = f"{name} = {value} of a fixed-point solver; it must be {what}"
        raise OptionError(msg)
