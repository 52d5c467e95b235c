"""Relaxation of positions and cells by ASE's optimizers."""

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

from mlff_calc.calculators.reuse import wants_shadow
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
        step: Number of steps made so far.
        energy: Potential energy, eV.
        fmax: Largest force on an atom, and where the cell is relaxed also the generalized force on it, eV/Angstrom.
            Convergence is judged by this value.
        volume: Volume of the cell, Angstrom^3; NaN without a cell.
    """

    step: int
    energy: float
    fmax: float
    volume: float


@dataclass(frozen=True)
class RelaxResult:
    """Outcome of a relaxation.

    Attributes:
        converged: Whether the largest force fell to the target.
        last: Last step.
        target: Target of the largest force, eV/Angstrom.
    """

    converged: bool
    last: RelaxStep
    target: float


def refuse_shadow(atoms: Atoms) -> None:
    """Refuse a calculator whose fields follow a motion in time, which a relaxation is not.

    Raises:
        OptionError: It does.
    """
    if wants_shadow(getattr(atoms.calc, "parameters", {}).get("reuse")):
        raise OptionError(
            "reuse='shadow' in a relaxation: fields follow a motion in time, and steps of a relaxation are none; leave "
            "reuse (--reuse) out"
        )


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
    """Relax the positions, and optionally the cell, until no force is above `fmax`.

    Args:
        atoms: Structure with a calculator, changed in place; its constraints are respected.
        fmax: Target of the largest force, eV/Angstrom.
        steps: Largest number of steps.
        optimizer: Name of the optimizer, ``FIRE``, ``LBFGS`` or ``BFGS``, in upper or lower case.
        cell: Whether to relax the cell as well (by ASE's FrechetCellFilter).
        pressure: External pressure, GPa, compression positive; only with `cell`.
        trajectory: File for all steps, in ASE's trajectory format; an older file is replaced.
        on_step: Function that is called with every step, including step 0 before the first move.

    Returns:
        Whether the relaxation converged, and its last step.

    Raises:
        OptionError: An option is out of range, or a pressure is given without `cell`.
        StructureError: The structure has no atoms, its positions, cell or momenta are not finite, or `cell` is set and the
            structure is not periodic in all directions.
        SimulationError: Energy or forces are not finite, or the disk refuses a step (full, quota, file too large), with
            the OSError as the cause. The steps before it are in the trajectory.
    """
    if len(atoms) == 0:
        raise StructureError("the structure has no atoms, there is nothing to relax")
    check_finite(atoms)
    refuse_shadow(atoms)
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
    """Check all options, and return the class of the optimizer."""
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
