"""When a solve that begins from the past goes on, and when it begins anew, for calculators, exported files and LAMMPS.

A step of a trajectory makes a fixed number of evaluations and is called again until its residuals are small. The values
stand in the record of exported files, where `pair_style mlff` finds them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mlff_calc.errors import OptionError

JUDGED_AFTER = 2
"""Calls of a step that are made before progress is judged at all: the second one goes on with secants of the first."""


@dataclass(frozen=True)
class WarmStart:
    """Options of starts from the past.

    Args:
        reach: largest distance (Angstrom) that an atom may have moved since the last step; from farther away its memory says
            nothing, and the solve begins cold. Raising it makes fewer cold starts and more calls that lead nowhere.
        factor: share to which the least residual has to fall for another call. Raising it makes more calls before a solve
            counts as failed.
        warm_patience: number of last calls in which it has to fall that far, where a cold start is still to come.
        cold_patience: the same for a cold start, after which there is nothing else.

    Raises:
        OptionError: an option out of range.
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
        """Whether a step that left these residuals, one per call and the newest last, is worth another call."""
        patience = self.cold_patience if cold else self.warm_patience
        if math.isnan(residuals[-1]):
            return False
        if len(residuals) <= max(JUDGED_AFTER, patience):
            return True
        return min(residuals[-patience:]) < self.factor * min(residuals[:-patience])

    @classmethod
    def of_record(cls, said: Mapping[str, Any]) -> WarmStart:
        """The policy in the record of an exported file; what files of format version 2 and before lack has its default.

        Raises:
            OptionError: a value out of range.
        """
        return cls(**{field.name: said[field.name] for field in fields(cls) if field.name in said})
