"""Relaxations of positions and cells on ASE's optimizers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS
from ase.optimize.optimize import Optimizer

from mlff_calc.dynamics.guards import check_finite
from mlff_calc.dynamics.trajectory import TrajectoryFile
from mlff_calc.errors import OptionError, SimulationError, StructureError
from mlff_calc.near import suggestion

OPTIMIZERS: dict[str, type[Optimizer]] = {"FIRE": FIRE, "LBFGS": LBFGS, "BFGS": BFGS}
_CURE = "Free space or choose another disk, and relax again."


@dataclass(frozen=True)
class RelaxStep:
    """One step of a relaxation.

    Attributes:
        step: steps taken so far.
        energy: eV.
        fmax: largest force on an atom, and with the cell on also its generalized force, eV/Angstrom. Convergence is
            judged by it.
        volume: Angstrom^3; NaN without a cell.
    """

    step: int
    energy: float
    fmax: float
    volume: float


@dataclass(frozen=True)
class RelaxResult:
    """How a relaxation ended.

    Attributes:
        converged: whether `fmax` was reached.
        last: the last step.
        target: the fmax asked for, eV/Angstrom.
    """

    converged: bool
    last: RelaxStep
    target: float


def relax(
    atoms: Atoms,
    *,
    fmax: float = 0.01,
    steps: int = 500,
    optimizer: str = "FIRE",
    cell: bool = False,
    pressure: float = 0.0,
    trajectory: str | Path | None = None,
    on_step: Callable[[RelaxStep], None] | None = None,
) -> RelaxResult:
    """Move the atoms, and the cell where asked for, downhill until no force is above `fmax`.

    Args:
        atoms: with a calculator; changed in place, constraints are kept.
        fmax: eV/Angstrom.
        steps: how many steps at most.
        optimizer: ``FIRE``, ``LBFGS`` or ``BFGS``, in any case.
        cell: relax the cell as well (ASE's FrechetCellFilter).
        pressure: GPa, positive compresses; only with `cell`.
        trajectory: file for all steps, in ASE's trajectory format; an older one is replaced.
        on_step: called with every step, the first (before anything moved) included.

    Returns:
        Whether it converged, and the last step.

    Raises:
        OptionError: an option out of range, or a pressure without the cell.
        StructureError: the cell of a structure that is not periodic in all directions was to be relaxed, no atoms, or
            positions, cell or momenta that are not finite.
        SimulationError: energy or forces are not finite, or the disk refuses a step (full, quota, file too large), with
            the OSError as its cause; the steps before it are in the trajectory.
    """
    if len(atoms) == 0:
        raise StructureError("the structure has no atoms, there is nothing to relax")
    check_finite(atoms)
    method = _checked_options(fmax, steps, optimizer, cell, pressure)
    if cell and not atoms.pbc.all():
        raise StructureError(
            f"the cell can only be relaxed where all directions are periodic, pbc is {atoms.pbc.tolist()}; "
            "leave cell=True (--cell) out, or set atoms.pbc = True"
        )
    target = FrechetCellFilter(atoms, scalar_pressure=pressure * units.GPa) if cell else atoms
    run = method(target, logfile=None)

    def current() -> RelaxStep:
        forces = np.asarray(target.get_forces())
        energy = float(atoms.get_potential_energy())
        largest = float(np.sqrt((forces**2).sum(axis=1)).max())
        if not (np.isfinite(energy) and np.isfinite(largest)):
            raise SimulationError(
                f"the relaxation broke down at step {run.nsteps}: energy {energy} eV, largest force {largest} eV/Angstrom; "
                "check the starting structure, it may be far from what the potential was trained on"
            )
        return RelaxStep(
            run.nsteps, energy, largest, float(atoms.cell.volume) if atoms.cell.rank == 3 else float("nan")
        )

    with run, ExitStack() as stack:
        recorded = None if trajectory is None else TrajectoryFile(Path(trajectory), cure=_CURE)
        if recorded is not None:
            stack.callback(recorded.close)

        def report() -> None:
            step = current()
            if recorded is not None:
                recorded.append(atoms, atoms.calc.results)
            if on_step is not None:
                on_step(step)

        run.attach(report, interval=1)
        converged = bool(run.run(fmax=fmax, steps=steps))
    return RelaxResult(converged, current(), fmax)


def _checked_options(fmax: float, steps: int, optimizer: str, cell: bool, pressure: float) -> type[Optimizer]:
    """The optimizer's class, after all options were looked at."""
    if not (np.isfinite(fmax) and fmax > 0.0):
        raise OptionError(f"fmax is {fmax} eV/Angstrom; give a positive number, 0.01 for example")
    if steps < 0:
        raise OptionError(f"steps is {steps}; give 0 or more")
    if not np.isfinite(pressure):
        raise OptionError(f"pressure is {pressure} GPa; give a finite number")
    if pressure != 0.0 and not cell:
        raise OptionError(f"a pressure ({pressure} GPa) acts on the cell; relax it too (cell=True, --cell)")
    if optimizer.upper() not in OPTIMIZERS:
        hint = suggestion(optimizer.upper(), OPTIMIZERS, after=" ")
        raise OptionError(f"unknown optimizer {optimizer!r}: {hint}choose {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer.upper()]
