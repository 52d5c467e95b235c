"""SCFs of many structures with one start, counted."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from mlff_calc.electronic.scf.fock_builds import counted
from mlff_calc.electronic.scf.mean_field import converged, initial_density
from mlff_calc.electronic.scf.starts import Starter
from mlff_calc.errors import ConvergenceError


@dataclass
class SCFStats:
    """Counts and times of SCFs.

    Attributes:
        calls: Number of structures solved.
        cycles: Number of cycles of their SCFs, of retries as well.
        fock_builds: Number of Fock builds, with those of starts, guard and retries.
        seconds: Seconds in SCFs with their starts.
        gradients: Number of gradients.
        gradient_seconds: Seconds in gradients.
        fallbacks: Number of starts that were replaced by minao.
        retries: Number of SCFs that were repeated because they did not converge.
        failures: Number of SCFs that did not converge when repeated either; they count in no other number but these two
            and those of cycles and builds.
    """

    calls: int = 0
    cycles: int = 0
    fock_builds: int = 0
    seconds: float = 0.0
    gradients: int = 0
    gradient_seconds: float = 0.0
    fallbacks: int = 0
    retries: int = 0
    failures: int = 0

    def as_dict(self) -> dict[str, float]:
        """All fields, ready for JSON or a table."""
        return asdict(self)

    def reset(self) -> None:
        """Set all fields to zero, for example after a warm-up."""
        for field in fields(self):
            setattr(self, field.name, field.default)

    def __str__(self) -> str:
        n = max(self.calls, 1)
        return (
            f"{self.calls} SCFs; per SCF {self.cycles / n:.2f} cycles, {self.fock_builds / n:.2f} Fock builds, "
            f"{self.seconds / n:.3f} s; {self.fallbacks} fallbacks, {self.retries} retries, {self.failures} failures"
        )


def solve(mf: Any, starter: Starter, stats: SCFStats) -> None:
    """Solve the SCF of a new mean field from a start, and once more where that does not converge.

    The second attempt has shifted levels and begins at the mean field's own start, or at the last density where the first
    one has begun there.

    Args:
        mf: Mean field of the structure, not yet solved.
        starter: Gives the initial density, and learns from the result.
        stats: Counts to increase.

    Raises:
        ConvergenceError: The SCF does not converge; names the number of the structure, counted from 0 as `stats` counts.
        OptionError, UnknownElementError, StructureError: The molecule is not one for the model.
    """
    begin = time.perf_counter()
    before, diis_start = starter.stats.fallbacks, mf.diis_start_cycle
    number = stats.calls + stats.failures

    def again() -> Any:
        stats.retries += 1
        starter.clear()
        mf.diis_start_cycle = diis_start  # which starts from earlier steps set to 0
        if starter.is_cold and mf.mo_coeff is not None and np.isfinite(mf.mo_coeff).all():
            return mf.make_rdm1()
        return initial_density(mf)

    with counted(mf) as watch:
        try:
            stats.cycles += converged(mf, starter.density(mf), again).cycles
        except ConvergenceError as error:
            stats.failures += 1
            stats.cycles += len(error.residuals)
            raise ConvergenceError(f"structure {number}: {error}", error.residuals) from error
        finally:
            stats.fock_builds += watch.builds
            stats.fallbacks += starter.stats.fallbacks - before
            stats.seconds += time.perf_counter() - begin
    stats.calls += 1
    starter.add(mf)
