"""What a solver knows about a problem, created by `Solver.begin` and replaced by `Solver.tell`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.fixed_point.preconditioner import LowRankInverse, low_rank_product


class Secants(NamedTuple):
    """Changes of z and of g = f(z) - z between evaluations, both [k, n_rows, width], oldest first."""

    z: Tensor
    g: Tensor


@dataclass(frozen=True)
class SolveState:
    """Progress of a solve of z = f(z). Rows of z belong to systems, and each system is a separate problem.

    Attributes:
        z: point [n_rows, width] at which f is evaluated next.
        best: evaluated point of each system [n_rows, width] with the smallest residual.
        best_residual: residual of `best` [n_systems], float64.
        residual: residual of the last evaluation [n_systems], float64.
        evaluations: number of evaluations until each system was done [n_systems].
        converged: whether each system converged [n_systems].
        done: whether each system converged or ran out of evaluations [n_systems].
        system_index: system of each row [n_rows].
        n_systems: number of systems.
        tolerance: residual below which a system has converged.
        limit: largest number of evaluations.
        last: z and g [n_rows, width] of the last evaluation; None before the first.
        secants: differences of earlier evaluations, for Anderson's method; None where there are none.
        inverse: low-rank inverse Jacobian that steps are multiplied by; None for plain steps.
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
        """Return the step -B g [n_rows, width] for a residual g, or g itself where no B is known."""
        if self.inverse is None:
            return gap
        return -low_rank_product(*self.inverse, gap, self.system_index, self.n_systems)


def inverse_of(known: SolveState) -> LowRankInverse:
    """Return the inverse Jacobian B that a solve ended with.

    Args:
        known: final state (`Solution.known`) of a solve by Broyden's method, or of any solve that was given a B.

    Raises:
            OptionError: the solve has no inverse Jacobian.
    """
    if known.inverse is None:
        raise OptionError("this solve kept no inverse Jacobian; solve with the solver 'broyden' once")
    return LowRankInverse(known.inverse.left.detach(), known.inverse.right.detach())
