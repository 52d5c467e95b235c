"""Where a calculator's time goes."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass
class CalculatorStats:
    """Times and counts of a calculator since it was made or `reset` was called.

    On CUDA the model is waited for before the results are fetched, so `model_s` is the time the device needed and not the
    time it took to start the work.

    Attributes:
        n_calls: model evaluations; answers from the calculator's cache are not counted.
        n_rebuilds: neighbour lists that had to be built anew, because an atom had moved more than half the skin, or
            because the structure was another one.
        neighbors_s: seconds in neighbour lists and edge vectors.
        model_s: seconds in the model.
        copies_s: seconds in moving the graph to the device, and results to numpy.
        n_forward, n_adjoint: evaluations of a fixed point's f, and products with its transposed Jacobian.
        n_cold: solves from scratch; the first step of a run, and those after a jump.
        cold_forward, cold_adjoint: evaluations that these took: what every step would cost without reuse.
        n_repeats: steps made again, because a residual was above the tolerance.
        n_retries: solves begun anew, because the one before did not converge.
        residual, adjoint_residual: of the last step.
        n_looks: structures (every twentieth) held against the training data, where the potential knows them.
        n_outside: how many of them were outside.
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
        """Set everything to zero, for example after a warm-up."""
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
