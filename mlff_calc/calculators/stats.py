"""Times and counts of a calculator."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass
class CalculatorStats:
    """Times and counts of a calculator since it was made or `reset` was called.

    On CUDA the calculator waits for the model before it fetches results, so `model_s` is the time of the computation and
    not of its launch.

    Attributes:
        n_calls: Number of model evaluations; answers from the calculator's cache are not counted.
        n_rebuilds: Number of neighbour-list builds, because an atom moved more than half the skin or the structure changed.
        neighbors_s: Seconds in neighbour lists and edge vectors.
        model_s: Seconds in the model.
        copies_s: Seconds in moving results to numpy.
        n_forward, n_adjoint: Numbers of evaluations of f and of products with its transposed Jacobian.
        n_cold: Number of solves from scratch: at the first step of a run and after jumps.
        cold_forward, cold_adjoint: Evaluations in those solves; per solve, the cost of a step without reuse.
        n_repeats: Number of steps repeated because a residual exceeded the tolerance.
        n_retries: Number of solves restarted because the one before did not converge.
        residual, adjoint_residual: Relative residuals of the last step.
        n_looks: Number of structures compared with the training data; see `extrapolation.EVERY`.
        n_outside: Number of those structures that were outside.
    """

    n_calls: int = 0
    n_rebuilds: int = 0
    neighbors_s: float = 0.0
    model_s: float = 0.0
    copies_s: float = 0.0
    n_forward: int = 0
    n_adjoint: int = 0
    n_cold: int = 0
    cold_forward: int = 0
    cold_adjoint: int = 0
    n_repeats: int = 0
    n_retries: int = 0
    residual: float = 0.0
    adjoint_residual: float = 0.0
    n_looks: int = 0
    n_outside: int = 0

    @property
    def total_s(self) -> float:
        """Seconds in all three parts."""
        return self.neighbors_s + self.model_s + self.copies_s

    def as_dict(self) -> dict[str, float]:
        """All fields, ready for JSON or a table."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def reset(self) -> None:
        """Set all fields to zero, for example after a warm-up."""
        for field in fields(self):
            setattr(self, field.name, field.default)

    def __str__(self) -> str:
        per_call = 1e3 / max(self.n_calls, 1)
        outside = f"; {self.n_outside} of {self.n_looks} structures outside the training data" if self.n_outside else ""
        return (
            f"{self.n_calls} calls, {self.n_rebuilds} neighbour-list builds; ms per call: "
            f"neighbours {self.neighbors_s * per_call:.3f}, model {self.model_s * per_call:.3f}, "
            f"copies {self.copies_s * per_call:.3f}{outside}"
        )
