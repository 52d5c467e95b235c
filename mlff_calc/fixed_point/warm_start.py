"""The policy for solves that start from earlier solutions, shared by calculators, exported files and LAMMPS.

A step of a trajectory makes a fixed number of evaluations and is repeated until its residuals are small. This policy
says when to repeat it and when to begin again with a cold start. Exported files carry its values for `pair_style mlff`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mlff_calc.errors import OptionError

JUDGED_AFTER = 2
"""Number of calls of a step before progress is judged. The second call already uses the secants of the first."""


@dataclass(frozen=True)
class WarmStart:
    """Options of warm starts.

    Args:
        reach: largest distance (Angstrom) that an atom may have moved since the last step. Beyond it the memory is
            useless and the solve begins cold. Raising it makes fewer cold starts and more calls that lead nowhere.
        factor: factor by which the smallest residual must fall for another call. Raising it allows more calls before a
            solve counts as failed.
        warm_patience: number of most recent calls within which the residual must fall that far, for a warm start.
        cold_patience: the same number for a cold start, which has no fallback.

    Raises:
        OptionError: an option is out of range.
    """

    reach: float = 0.5
    factor: float = 0.9
    warm_patience: int = 1
    cold_patience: int = 5

    def __post_init__(self) -> None:
        """Check the options."""
        for name, kinds, most in (
            ("reach", (int, float), 1e6),
            ("factor", (int, float), 1.0),
            ("warm_patience", (int,), 1000),
            ("cold_patience", (int,), 1000),
        ):
            value = getattr(self, name)
            if type(value) not in kinds or not 0 < value <= most:
                kind = "number" if float in kinds else "whole number"
                raise OptionError(f"{name} = {value!r} of warm starts; it must be a {kind} above 0 and at most {most:g}")

    def goes_on(self, residuals: Sequence[float], *, cold: bool) -> bool:
        """Whether a step with these residuals (one per call, newest last) is worth another call."""
        patience = self.cold_patience if cold else self.warm_patience
        if math.isnan(residuals[-1]):
            return False
        if len(residuals) <= max(JUDGED_AFTER, patience):
            return True
        return min(residuals[-patience:]) < self.factor * min(residuals[:-patience])

    @classmethod
    def of_record(cls, said: Mapping[str, Any]) -> WarmStart:
        """Read the policy from the record of an exported file; files of format version 1 and 2 get the defaults.

        Raises:
            OptionError: a value is out of range.
        """
        return cls(**{field.name: said[field.name] for field in fields(cls) if field.name in said})
