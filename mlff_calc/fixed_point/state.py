"""What a solver knows of a problem: data that `Solver.begin` makes and `Solver.tell` replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.fixed_point.preconditioner import LowRankInverse, low_rank_product


class Secants(NamedTuple):
    """Changes of z and of g = f(z) - z between evaluations, [k, n_rows, width] each, oldest first."""

    z: Tensor
    g: Tensor


@dataclass(frozen=True)
class SolveState:
    """Everything known of z = f(z) after some evaluations. Rows of z belong to systems, each a problem of its own.

    Attributes:
        z: [n_rows, width], where f is to be evaluated next.
        best, best_residual: state [n_rows, width] and residual [n_systems] (float64) of the evaluation that came nearest.
        residual: [n_systems] of the last evaluation, float64.
        evaluations: [n_systems], counted until a system was done.
        converged, done: [n_systems]; a system is done when it converged or is out of evaluations.
        system_index: [n_rows], the system of each row. n_systems: number of systems.
        tolerance: residual below which a system has converged. limit: most evaluations.
        last: z and g [n_rows, width] of the last evaluation; None before the first.
        secants: differences of earlier evaluations, for Anderson's method; None where there are none.
        inverse: inverse Jacobian of low rank that steps are made with; None for plain ones.
    """

    z: Tensor
    best: Tensor
    best_residual: Tensor
    residual: Tensor
    evaluations: Tensor
    converged: Tensor
    done: Tensor
    system_index: Tensor
    n_systems: int
    tolerance: float
    limit: int
    last: tuple[Tensor, Tensor] | None = None
    secants: Secants | None = None
    inverse: LowRankInverse | None = None

    def preconditioned(self, gap: Tensor) -> Tensor:
        """-B g [n_rows, width], the step a residual asks for; g itself where no B is known."""
        if self.inverse is None:
            return gap
        return -low_rank_product(*self.inverse, gap, self.system_index, self.n_systems)


def inverse_of(known: SolveState) -> LowRankInverse:
    """B as a solve left it.

    Args:
        known: of a solve by Broyden's method (`Solution.known`), or of any that was itself given a B.

    Raises:
        OptionError: the solver kept none.
    """
    if known.inverse is None:
        raise OptionError("this solve kept no inverse Jacobian; solve with the solver 'broyden' once")
    return LowRankInverse(known.inverse.left.detach(), known.inverse.right.detach())
