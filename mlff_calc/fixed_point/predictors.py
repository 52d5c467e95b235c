"""Starts for the next solve, from the solutions of the steps before.

Along a trajectory the fixed point z and the adjoint lambda are smooth in time, and so is the embedding u, which is known
before the solve. A predictor is a rule and holds options only; what is known of a run is a `Past`, which is data: it can be
copied, kept per image of a band, and written to a restart file. A rule answers with weights of the last solutions, or says
that least squares over embeddings is to find them (`unrolled.least_squares_mix`, inside the compiled step).

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
    """What is kept of a run for prediction.

    Attributes:
        solutions: fixed point and adjoint [2, n_rows, ...] of the last steps, newest first.
        embeddings: embeddings [n_rows, ...] of the same steps.
        auxiliary: auxiliary variables [2, n_rows, ...], newest first (time-reversible prediction only).
    """

    solutions: list[Tensor] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    auxiliary: list[Tensor] = field(default_factory=list)


class Predictor:
    """A rule for the next start; `window` is the number of steps it looks back.

    `Predictor` itself is the least-squares rule: the combination of earlier steps, of sum one, whose embeddings come nearest
    to the present one.

    Args:
        window: steps that are combined, at most 12; 0 for none, which is a cold start at every step.

    Raises:
        OptionError: an option out of range.
    """

    def __init__(self, window: int = 4) -> None:
        _check("window", window, 0, 12)
        self.window = window

    def weights(self, past: Past) -> list[float] | None:
        """Weights of the last solutions, newest first; None where least squares is to find them."""
        del past
        return None

    def replaced(self, past: Past) -> Tensor | None:
        """A start [2, n_rows, ...] that is no combination of solutions; None where it is one."""
        del past
        return None

    def remember(self, past: Past, solution: Tensor, embedding: Tensor, start: Tensor | None) -> None:
        """Add a step to the past.

        Args:
            past: of this run, changed in place.
            solution: [2, n_rows, ...], what the solve found.
            embedding: [n_rows, ...].
            start: what `replaced` gave for this step.
        """
        del start
        depth = max(1, self.window)
        past.solutions[:] = [solution, *past.solutions][:depth]
        past.embeddings[:] = [embedding, *past.embeddings][:depth]


class LeastSquares(Predictor):
    """See `Predictor`."""


class Extrapolation(Predictor):
    """A fixed combination of the last solutions; a lower order while there are too few.

    Args:
        coefficients: by number of steps available, newest first.
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
    """Kolafa's predictor of order k, of k + 2 steps: damped against the noise that polynomials amplify."""
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
        super().__init__(1)
        self.depth = len(self.friction)

    def weights(self, past: Past) -> list[float] | None:
        """See `Predictor`."""
        del past
        return [1.0]

    def replaced(self, past: Past) -> Tensor | None:
        """See `Predictor`; until there are enough steps, the solutions themselves are taken for the auxiliary variable."""
        if len(past.auxiliary) < self.depth:
            return None
        newest, before = past.auxiliary[0], past.auxiliary[1]
        moved = 2.0 * newest - before + self.kappa * (past.solutions[0] - newest)
        if self.alpha:
            for c, auxiliary in zip(self.friction, past.auxiliary, strict=True):
                moved = moved + self.alpha * c * auxiliary
        return moved

    def remember(self, past: Past, solution: Tensor, embedding: Tensor, start: Tensor | None) -> None:
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
"""Predictors by name."""


def build_predictor(name: str) -> Predictor:
    """A predictor by name.

    Raises:
        OptionError: an unknown name.
    """
    if name not in PREDICTORS:
        msg = f"unknown predictor {name!r}; choose one of {', '.join(PREDICTORS)}"
        raise OptionError(msg)
    return PREDICTORS[name]()
