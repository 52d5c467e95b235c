"""Starts for the next solve, from the solutions of the steps before.

Along a trajectory the fixed point z and the adjoint lambda are smooth in time, and so is the embedding u, which is known
before the solve. A predictor holds options only; what it knows of a run is a `Past`, which is data: it can be copied, kept per
image of a band, and written to a restart file.

| symbol | name in code | shape |
|---|---|---|
| z_t, lambda_t | `solutions[i]`, newest first | [2, n_rows, width] |
| u_t | `embeddings[i]`, newest first | [n_rows, width] |
| p_t (Niklasson's auxiliary variable) | `auxiliary[i]`, newest first | [2, n_rows, width] |

Sources: Kolafa, "Time-reversible always stable predictor-corrector method for molecular dynamics of polarizable molecules"
(2004), Eqs. 8-9; Niklasson et al., "Extended Lagrangian Born-Oppenheimer molecular dynamics with dissipation" (2009), Eq. 14
and Table I. Least squares: the coefficients that make the present embedding out of earlier ones make the present solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import comb

import torch
from torch import Tensor

from mlff_calc.errors import OptionError


@dataclass(frozen=True)
class Past:
    """What is kept of a run.

    Attributes:
        solutions: fixed point and adjoint [2, n_rows, width] of the last steps, newest first.
        embeddings: embeddings [n_rows, width] of the same steps.
        auxiliary: auxiliary variables [2, n_rows, width], newest first (time-reversible prediction only).
    """

    solutions: tuple[Tensor, ...] = ()
    embeddings: tuple[Tensor, ...] = ()
    auxiliary: tuple[Tensor, ...] = field(default=())


class Predictor:
    """A rule for the next start; `depth` is the number of steps it looks back."""

    depth = 0

    def start(self, past: Past, embedding: Tensor) -> Tensor | None:
        """Start [2, n_rows, width] for fixed point and adjoint; None for a cold start.

        Args:
            past: of this run.
            embedding: [n_rows, width], of the step to be solved.
        """
        del past, embedding
        return None

    def remember(self, past: Past, solution: Tensor, embedding: Tensor, start: Tensor | None) -> Past:
        """The past with one more step.

        Args:
            past: until now.
            solution: [2, n_rows, width], what the solve found.
            embedding: [n_rows, width].
            start: what `start` gave.
        """
        del start
        return Past((solution, *past.solutions)[: self.depth], (embedding, *past.embeddings)[: self.depth])


class Extrapolation(Predictor):
    """A fixed combination of the last solutions; a lower order while there are too few.

    Args:
        coefficients: by number of steps available, newest first.
    """

    def __init__(self, coefficients: Sequence[Sequence[float]]) -> None:
        self.coefficients = [list(row) for row in coefficients]
        self.depth = len(self.coefficients[-1])

    def start(self, past: Past, embedding: Tensor) -> Tensor | None:
        """See `Predictor`."""
        del embedding
        usable = [row for row in self.coefficients if len(row) <= len(past.solutions)]
        if not usable:
            return None
        return combine(usable[-1], past.solutions)


def polynomial(order: int) -> Extrapolation:
    """Extrapolation by a polynomial through the last `order` + 1 steps: 0 is the previous step, 1 a straight line."""
    _check("order", order, 0, 6)
    return Extrapolation([[(-1.0) ** j * comb(k, j + 1) for j in range(k)] for k in range(1, order + 2)])


def always_stable(order: int) -> Extrapolation:
    """Kolafa's predictor of order k, of k + 2 steps: damped against the noise that polynomials amplify."""
    _check("order", order, 0, 6)
    rows = [
        [(-1.0) ** (j + 1) * j * comb(2 * k + 4, k + 2 - j) / comb(2 * k + 2, k + 1) for j in range(1, k + 3)]
        for k in range(order + 1)
    ]
    return Extrapolation([[1.0], *rows])


class LeastSquares(Predictor):
    """The combination of earlier steps, of sum one, whose embeddings come nearest to the present one.

    Args:
        window: steps that are combined.
        ridge: of the normal equations, relative to their trace; larger for looser solves, whose noise it keeps out.

    Raises:
        OptionError: an option out of range.
    """

    def __init__(self, window: int = 4, ridge: float = 1e-10) -> None:
        _check("window", window, 2, 12)
        if not ridge > 0.0:
            msg = f"ridge = {ridge} of a predictor; it must be positive"
            raise OptionError(msg)
        self.depth = window
        self.ridge = ridge

    def start(self, past: Past, embedding: Tensor) -> Tensor | None:
        """See `Predictor`."""
        if not past.solutions:
            return None
        return combine(self.coefficients(past, embedding), past.solutions)

    def coefficients(self, past: Past, embedding: Tensor) -> list[float]:
        """Weights of the earlier steps, newest first."""
        if len(past.embeddings) == 1:
            return [1.0]
        newest = past.embeddings[0].double()
        changes = torch.stack([earlier.double() - newest for earlier in past.embeddings[1:]]).flatten(1)
        gram = changes @ changes.T
        gram = gram + self.ridge * gram.trace() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        right = changes @ (embedding.double() - newest).flatten()
        weights = torch.linalg.solve_ex(gram, right)[0].tolist()
        return [1.0 - sum(weights), *weights]


DISSIPATION = {
    3: (1.69, 0.150, (-2, 3, 0, -1)),
    4: (1.75, 0.057, (-3, 6, -2, -2, 1)),
    5: (1.82, 0.018, (-6, 14, -8, -3, 4, -1)),
    6: (1.84, 0.0055, (-14, 36, -27, -2, 12, -6, 1)),
    7: (1.86, 0.0016, (-36, 99, -88, 11, 32, -25, 8, -1)),
}
"""Niklasson's kappa, alpha and c by K."""


class TimeReversible(Predictor):
    """Niklasson's auxiliary variable: p follows the solutions in a harmonic well, integrated by Verlet.

    Args:
        dissipation: K, the number of earlier steps in the weak friction that forgets noise; 0 for none, which is exactly
            reversible and forgets nothing.

    Raises:
        OptionError: a K without coefficients.
    """

    def __init__(self, dissipation: int = 5) -> None:
        if dissipation not in (0, *DISSIPATION):
            msg = f"dissipation = {dissipation} of a time-reversible predictor; choose one of 0, 3, 4, 5, 6, 7"
            raise OptionError(msg)
        self.kappa, self.alpha, self.friction = DISSIPATION.get(dissipation, (2.0, 0.0, (0, 0)))
        self.depth = len(self.friction)

    def start(self, past: Past, embedding: Tensor) -> Tensor | None:
        """See `Predictor`."""
        del embedding
        if not past.solutions:
            return None
        if len(past.auxiliary) < self.depth:
            return past.solutions[0]
        newest, before = past.auxiliary[0], past.auxiliary[1]
        moved = 2.0 * newest - before + self.kappa * (past.solutions[0] - newest)
        if self.alpha:
            moved = moved + self.alpha * combine([float(c) for c in self.friction], past.auxiliary)
        return moved

    def remember(self, past: Past, solution: Tensor, embedding: Tensor, start: Tensor | None) -> Past:
        """See `Predictor`; until there are enough steps, the auxiliary variable is the solution itself."""
        enough = len(past.auxiliary) >= self.depth and start is not None
        kept = super().remember(past, solution, embedding, start)
        return replace(kept, auxiliary=((start if enough else solution), *past.auxiliary)[: self.depth])


def combine(coefficients: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    """Sum of `coefficients` times `tensors`, one by one."""
    total = coefficients[0] * tensors[0]
    for coefficient, tensor in zip(coefficients[1:], tensors[1:], strict=False):
        total = total + coefficient * tensor
    return total


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        msg = f"{name} = {value} of a predictor; it must be between {low} and {high}"
        raise OptionError(msg)
