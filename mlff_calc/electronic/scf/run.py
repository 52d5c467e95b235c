"""SCFs of many structures with one start, counted."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from mlff_calc.electronic.scf.fock_builds import counted
from mlff_calc.electronic.scf.mean_field import converged
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
    """Solve the SCF of a new mean field from a start. If that does not converge, it is solved again by `converged`.

    Args:
        mf: Mean field of the structure, not yet solved.
        starter: Gives the initial density, and learns from the result.
        stats: Counts to increase.

    Raises:
        ConvergenceError: The SCF does not converge.
        OptionError, UnknownElementError, StructureError: The molecule is not one for the model.
    """
    begin = time.perf_counter()
    before, diis_start = starter.stats.fallbacks, mf.diis_start_cycle
    with counted(mf) as watch:
        try:
            density = starter.density(mf)
            if not _attempt(mf, density, stats):
                stats.retries += 1
                starter.clear()
                mf.diis_start_cycle = diis_start  # which starts from earlier steps set to 0
                again = mf.get_init_guess(mf.mol, "minao")
                if starter.start == "minao" and mf.mo_coeff is not None and np.isfinite(mf.mo_coeff).all():
                    again = mf.make_rdm1()
                stats.cycles += converged(mf, dm0=again)
        except ConvergenceError:
            stats.failures += 1
            raise
        finally:
            stats.fock_builds += watch.builds
            stats.fallbacks += starter.stats.fallbacks - before
            stats.seconds += time.perf_counter() - begin
    stats.calls += 1
    starter.add(mf)


def _attempt(mf: Any, density: Any, stats: SCFStats) -> bool:
    """Run the kernel once; whether it has converged."""
    try:
        mf.kernel(dm0=density)
    except np.linalg.LinAlgError:
        return False
    stats.cycles += mf.cycles
    return bool(mf.converged and np.isfinite(mf.e_tot))
