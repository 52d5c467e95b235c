"""Typed errors. Each message names the value, the place and the cure."""

from __future__ import annotations

_LONGEST, _ENDS = 2500, 900  # largest length of a message, and length of the two ends kept of a longer one, in characters


def _fit(text: str) -> str:
    """Shorten text that is too long to read by leaving out its middle."""
    if len(text) <= _LONGEST:
        return text
    left_out = len(text) - 2 * _ENDS
    return f"{text[:_ENDS]} ... ({left_out} characters left out) ... {text[-_ENDS:]}"


class MLFFError(Exception):
    """Base of every error this package raises on purpose; its text can be shown to a user as it is.

    Texts of thousands of characters, such as quotes from a damaged file, are shortened in the middle.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_fit(each) if isinstance(each, str) else each for each in args))


class UnknownElementError(MLFFError, ValueError):
    """A structure holds an element that the potential was not trained for."""


class StructureError(MLFFError, ValueError):
    """A structure cannot be turned into a graph: zero cell with pbc, overlapping atoms, positions that are not finite."""


class DatasetError(MLFFError, ValueError):
    """A data file is missing, unreadable, lacks requested labels, or holds labels that are not finite."""


class RecipeError(MLFFError, ValueError):
    """A recipe has an unknown key, a value out of range, or options that contradict each other."""


class PotentialFileError(MLFFError, ValueError):
    """A folder or file is not a potential, or is truncated, damaged, or was written by a newer version."""


class OptionError(MLFFError, ValueError):
    """An option cannot be honoured: a device is missing, a precision is unknown, an extra is not installed."""


class OrbitalError(MLFFError, ValueError):
    """A basis or a matrix of orbitals cannot be used: Cartesian, beyond f, of another size, or in an unknown order."""


class TrainingError(MLFFError, RuntimeError):
    """Training cannot continue: a loss is not finite, or a checkpoint belongs to another recipe."""


class EvaluationError(MLFFError, ValueError):
    """A potential gives values that are not finite for an evaluated structure."""


class SimulationError(MLFFError, RuntimeError):
    """A run was stopped, for values that are not finite, an exploding temperature or an exceeded threshold."""


class CacheError(MLFFError, RuntimeError):
    """A cache of code belongs to somebody else, or others may write in it."""


class ConvergenceError(SimulationError):
    """A fixed point was not found.

    Attributes:
        residuals: relative residual after each evaluation of the last attempt; of self-consistent fields, the norm of the
            orbital gradient in each cycle of all attempts.
    """

    def __init__(self, message: str, residuals: list[float]) -> None:
        super().__init__(message)
        self.residuals = residuals


class IntegrationError(SimulationError):
    """A differential equation could not be solved: it needs too many steps, or its values are not finite.

    Attributes:
        why: What is wrong, with the cure.
        sample: Number of the sample in its batch.
        time: Time that the solution had reached.
        unit: Unit of time and step; empty for that of the equation.
        step: Length of the equal steps of the solver; None where they are not equal or do not matter.
        place: Name of the sample; empty for its number.
    """

    def __init__(
        self, why: str, sample: int, time: float, unit: str = "", *, step: float | None = None, place: str = ""
    ) -> None:
        of = unit and f" {unit}"
        steps = "" if step is None else f" (one is {step:g}{of})"
        super().__init__(f"the solve of {place or f'sample {sample}'} stands at time {time:g}{of} and {why}{steps}")
        self.why, self.sample, self.time, self.unit, self.step, self.place = why, sample, time, unit, step, place

    def within(self, sample: int | None = None, *, later: float = 0.0, place: str = "") -> IntegrationError:
        """The same of a larger batch and a longer time.

        Args:
            sample: Number of the sample there; None for the same.
            later: Time at which the solution began, in the same unit.
            place: Name of the sample; empty for its number.
        """
        number = self.sample if sample is None else sample
        return IntegrationError(self.why, number, self.time + later, self.unit, step=self.step, place=place)


class BenchmarkError(MLFFError, RuntimeError):
    """A benchmarked program could not be installed, built, loaded or run."""
