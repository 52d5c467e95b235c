"""Starts for the next solve, from the solutions of the steps before.

Along a trajectory the fixed point z and the adjoint lambda are smooth in time, and so is the embedding u, which is known
before the solve. A predictor is a rule and holds only options. The history of a run is a `Past`, which is plain data:
it can be copied, kept per image of a band, and written to a restart file. A rule returns weights for the last
solutions, or None where the weights are to be found by least squares over embeddings (`unrolled.least_squares_mix`,
inside the compiled step).

| symbol | name in code | shape |
|---|---|---|
| z_t, lambda_t | `solutions[i]`, newest first | [2, n_rows, ...] |
| u_t | `embeddings[i]`, newest first | [n_rows, ...] |
| p_t (Niklasson's auxiliary variable) | `auxiliary[i]`, newest first | [2, n_rows, ...] |

Sources: Kolafa, "Time-reversible always stable predictor-corrector method for molecular dynamics of polarizable molecules"
(2004), Eqs. 8-9; Niklasson et al., "Extended Lagrangian Born-Oppenheimer molecular dynamics with dissipation" (2009), Eq. 14
and Table I. Least squares: the coefficients that make the present embedding out of earlier ones make the present solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import comb

from torch import Tensor

from mlff_calc.errors import OptionError


@dataclass
class Past:
    """History of a run that predictors use.

    Attributes:
        solutions: fixed point and adjoint [2, n_rows, ...] of the last steps, newest first; [1, n_rows, ...] without
            an adjoint.
        embeddings: embeddings [n_rows, ...] of the same steps.
        auxiliary: auxiliary variables [2, n_rows, ...] of the same steps (time-reversible prediction only).
    """

    solutions: list[Tensor] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    auxiliary: list[Tensor] = field(default_factory=list)


class Predictor:
    """Rule for the next start.

    `Predictor` itself is the least-squares rule: it combines earlier steps with weights that sum to one, such that the
    combined embedding comes nearest to the present one.

    Args:
        window: number of steps that are combined, at most 12; 0 means a cold start at every step.

    Raises:
        OptionError: an option out of range.
    """

    def __init__(self, window: int = 4) -> None:
        _check("window", window, 0, 12)
        self.window = window

    def weights(self, past: Past) -> list[float] | None:
        """Return the weights of the last solutions, newest first; None where they are found by least squares."""
        del past
        return None

    def replaced(self, past: Past) -> Tensor | None:
        """Return a start [2, n_rows, ...] that is not a combination of past solutions; None otherwise."""
        del past
        return None

    def remember(self, past: Past, solution: Tensor, embedding: Tensor | None, start: Tensor | None) -> None:
        """Add a step to the history.

        Args:
            past: history of the run, changed in place.
            solution: fixed point and adjoint of the step [2, n_rows, ...].
            embedding: embedding of the step [n_rows, ...]; None where no rule reads it.
            start: result of `replaced` for this step.
        """
        del start
        depth = max(1, self.window)
        past.solutions[:] = [solution, *past.solutions][:depth]
        if embedding is not None:
            past.embeddings[:] = [embedding, *past.embeddings][:depth]


class LeastSquares(Predictor):
    """See `Predictor`."""


class Extrapolation(Predictor):
    """Fixed combination of the last solutions, of lower order while fewer steps are available.

    Args:
        coefficients: one row per number of available steps, each with weights newest first.
    """

    def __init__(self, coefficients: Sequence[Sequence[float]]) -> None:
        self.coefficients = [list(row) for row in coefficients]
        super().__init__(len(self.coefficients[-1]))

    def weights(self, past: Past) -> list[float] | None:
        """See `Predictor`."""
        return [row for row in self.coefficients if len(row) <= max(1, len(past.solutions))][-1]


def polynomial(order: int) -> Extrapolation:
    """Extrapolation by a polynomial through the last `order` + 1 steps: 0 is the previous step, 1 a straight line."""
    _check("order", order, 0, 6)
    return Extrapolation([[(-1.0) ** j * comb(k, j + 1) for j in range(k)] for k in range(1, order + 2)])


def always_stable(order: int) -> Extrapolation:
    """Kolafa's always stable predictor of order k over k + 2 steps, which damps the noise that polynomials amplify."""
    _check("order", order, 0, 6)
    rows = [
        [(-1.0) ** (j + 1) * j * comb(2 * k + 4, k + 2 - j) / comb(2 * k + 2, k + 1) for j in range(1, k + 3)]
        for k in range(order + 1)
    ]
    return Extrapolation([[1.0], *rows])


DISSIPATION = {
    3: (1.69, 0.150, (-2, 3, 0, -1)),
    4: (1.75, 0.057, (-3, 6, -2, -2, 1)),
    5: (1.82, 0.018, (-6, 14, -8, -3, 4, -1)),
    6: (1.84, 0.0055, (-14, 36, -27, -2, 12, -6, 1)),
    7: (1.86, 0.0016, (-36, 99, -88, 11, 32, -25, 8, -1)),
}
"""Niklasson's kappa, alpha and coefficients c for each K (Table I)."""


class TimeReversible(Predictor):
    """Niklasson's auxiliary variable: p follows the solutions in a harmonic well, integrated by Verlet.

    Args:
        dissipation: number K of earlier steps in the weak friction term that damps noise; 0 for no friction, which is
            exactly reversible but never loses noise.

    Raises:
        OptionError: there are no coefficients for this K.
    """

    def __init__(self, dissipation: int = 5) -> None:
        if dissipation not in (0, *DISSIPATION):
            msg = f"dissipation = {dissipation} of a time-reversible predictor; choose one of 0, 3, 4, 5, 6, 7"
            raise OptionError(msg)
        self.kappa, self.alpha, self.friction = DISSIPATION.get(dissipation, (2.0, 0.0, (0, 0)))
        super().__init__(1)
        self.depth = len(self.friction)

    def weights(self, past: Past) -> list[float] | None:
        """See `Predictor`."""
        del past
        return [1.0]

    def replaced(self, past: Past) -> Tensor | None:
        """See `Predictor`; the solutions serve as auxiliary variable until enough steps are available."""
        if len(past.auxiliary) < self.depth:
            return None
        return self.moved(past.solutions[0], past.auxiliary)

    def moved(self, solution: Tensor, auxiliary: Sequence[Tensor] | Tensor) -> Tensor:
        """Return the next auxiliary variable.

        Args:
            solution: solution of the last step [...].
            auxiliary: auxiliary variables [...] of the last steps, newest first, at least `depth`.
        """
        newest, before = auxiliary[0], auxiliary[1]
        moved = 2.0 * newest - before + self.kappa * (solution - newest)
        if self.alpha:
            for c, variable in zip(self.friction, auxiliary, strict=False):
                moved = moved + self.alpha * c * variable
        return moved

    def remember(self, past: Past, solution: Tensor, embedding: Tensor | None, start: Tensor | None) -> None:
        """See `Predictor`."""
        super().remember(past, solution, embedding, start)
        past.auxiliary[:] = [solution if start is None else start, *past.auxiliary][: self.depth]


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        msg = f"{name} = {value} of a predictor; it must be between {low} and {high}"
        raise OptionError(msg)


PREDICTORS = {
    "none": lambda: Predictor(0),
    "previous": lambda: polynomial(0),
    "linear": lambda: polynomial(1),
    "quadratic": lambda: polynomial(2),
    "cubic": lambda: polynomial(3),
    "aspc2": lambda: always_stable(2),
    "aspc3": lambda: always_stable(3),
    "reversible": lambda: TimeReversible(0),
    "reversible5": lambda: TimeReversible(5),
    "least_squares4": lambda: LeastSquares(4),
    "least_squares6": lambda: LeastSquares(6),
    "least_squares8": lambda: LeastSquares(8),
}
"""Constructors of the predictors, by name."""


def build_predictor(name: str) -> Predictor:
    """Build a predictor by name.

    Raises:
        OptionError: the name is unknown.
    """
    if name not in PREDICTORS:
        msg = f"unknown predictor {name!r}; choose one of {', '.join(PREDICTORS)}"
        raise OptionError(msg)
    return PREDICTORS[name]()
