"""SCFs of many structures with one start, counted."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from ase import Atoms

from mlff_calc.electronic.scf.fock_builds import counted
from mlff_calc.electronic.scf.starts import Starter
from mlff_calc.errors import SimulationError


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
        retries: Number of SCFs that were repeated from minao because they did not converge.
    """

    calls: int = 0
    cycles: int = 0
    fock_builds: int = 0
    seconds: float = 0.0
    gradients: int = 0
    gradient_seconds: float = 0.0
    fallbacks: int = 0
    retries: int = 0

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
            f"{self.seconds / n:.3f} s; {self.fallbacks} fallbacks, {self.retries} retries"
        )


def solve(mf: Any, atoms: Atoms, starter: Starter, stats: SCFStats) -> None:
    """Solve the SCF of a new mean field from a start, and from minao if that does not converge.

    Args:
        mf: Mean field of the structure, not yet solved.
        atoms: The structure, for messages.
        starter: Gives the initial density, and learns from the result.
        stats: Counts to increase.

    Raises:
        SimulationError: The SCF does not converge.
        OptionError, UnknownElementError: The structure is not one for the model.
    """
    begin = time.perf_counter()
    before = starter.stats.fallbacks
    with counted(mf) as watch:
        mf.kernel(dm0=starter.density(mf))
        stats.cycles += mf.cycles
        if not mf.converged and starter.start != "minao":
            stats.retries += 1
            starter.clear()
            mf.kernel(dm0=mf.get_init_guess(mf.mol, "minao"))
            stats.cycles += mf.cycles
        stats.fock_builds += watch.builds
    stats.calls += 1
    stats.fallbacks += starter.stats.fallbacks - before
    stats.seconds += time.perf_counter() - begin
    if not mf.converged or not np.isfinite(mf.e_tot):
        starter.clear()
        raise SimulationError(
            f"the SCF of {atoms.get_chemical_formula()} did not converge in {mf.cycles} cycles; raise max_cycle, or look at the "
            "structure: atoms may be too near to each other, or the molecule no closed shell"
        )
    starter.add(mf)
