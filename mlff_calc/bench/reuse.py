"""What reuse of fixed points buys and costs: time, evaluations, force errors and drift of whole trajectories.

All ways of reuse start from the same atoms and velocities. Drift is that of the total energy with the energy the calculator
gives; force errors are against a cold solve in float64 to a relative residual of 1e-10 on frames of the same trajectory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.calculators.reuse import Reuse
from mlff_calc.dynamics.observables import energy_drift
from mlff_calc.dynamics.velocities import set_maxwell_velocities
from mlff_calc.errors import OptionError
from mlff_calc.potential import Potential
from mlff_calc.potential.fixed_point import FixedPointPotential

logger = logging.getLogger(__name__)

TIGHT = 1e-10
"""Relative residual of the reference."""


@dataclass(frozen=True)
class Run:
    """A trajectory under one way of reuse.

    Attributes:
        name: of the way. temperature_K: of the run, nominally, or of the thermostat. timestep_fs, time_ps: of the run.
        n_forward, n_adjoint: evaluations per step after the first one, repeats and cold solves included.
        ms: wall time per step, everything included. model_ms: of the model alone.
        drift, drift_error: of the total energy, meV/atom/ps. noise: its standard deviation about the line, meV/atom.
        force_rmse: against the reference, root mean square over components and frames, meV/Angstrom.
        mean_temperature_K: over the run.
        n_cold, n_repeats: solves from scratch, and steps made again.
    """

    name: str
    temperature_K: float
    timestep_fs: float
    time_ps: float
    n_forward: float
    n_adjoint: float
    ms: float
    model_ms: float
    drift: float
    drift_error: float
    noise: float
    force_rmse: float
    mean_temperature_K: float
    n_cold: int
    n_repeats: int

    def as_dict(self) -> dict[str, float | str | int]:
        """For a table."""
        return asdict(self)


def reference_of(potential: Potential) -> MLFFCalculator:
    """A calculator that solves every structure from scratch to `TIGHT` in float64.

    Raises:
        OptionError: a potential without a fixed point.
    """
    tight = potential.to_precision("float64")
    if not isinstance(tight, FixedPointPotential):
        raise OptionError("reuse is studied with potentials that have a fixed point (backbone deq); give one of these")
    tight.backbone.tolerance = TIGHT
    tight.backbone.solver = replace(tight.backbone.solver, max_evaluations=200)
    return MLFFCalculator(tight, precision="float64", reuse="none", device="cpu")


def calculator_of(potential: Potential, reuse: Reuse | str, *, compiled: bool, precision: str) -> MLFFCalculator:
    """A calculator for one way of reuse."""
    return MLFFCalculator(potential, precision=precision, reuse=reuse, compile=compiled, device="cpu")


def nve(
    atoms: Atoms,
    calculator: MLFFCalculator,
    reference: MLFFCalculator | None,
    *,
    name: str,
    temperature_K: float,
    timestep_fs: float,
    time_ps: float,
    frames: int = 40,
) -> tuple[Run, NDArray[np.float64]]:
    """A run at constant energy.

    Args:
        atoms: the start, a minimum; copied. Velocities of twice `temperature_K` are drawn with seed 0, half of which go into
            potential energy.
        calculator: under test.
        reference: for force errors; None for none.
        name: of the way of reuse.
        temperature_K: nominal.
        timestep_fs: of the integrator.
        time_ps: length of the run.
        frames: at which forces are compared.

    Returns:
        The summary, and time (ps) and total energy (eV) [n, 2].
    """
    atoms = atoms.copy()
    set_maxwell_velocities(atoms, 2.0 * temperature_K, seed=0)
    atoms.calc = calculator
    return _follow(
        atoms,
        VelocityVerlet(atoms, timestep_fs * units.fs),
        reference,
        name,
        temperature_K,
        timestep_fs,
        time_ps,
        frames,
    )


def langevin(
    atoms: Atoms,
    calculator: MLFFCalculator,
    reference: MLFFCalculator | None,
    *,
    name: str,
    temperature_K: float,
    timestep_fs: float,
    time_ps: float,
    frames: int = 40,
    seed: int = 0,
    friction_per_ps: float = 10.0,
    pairs: Sequence[tuple[int, int]] = (),
) -> tuple[Run, NDArray[np.float64]]:
    """A thermostatted run.

    Args:
        atoms: the start; copied.
        calculator: under test.
        reference: for force errors; None for none.
        name: of the way of reuse.
        temperature_K: of the thermostat.
        timestep_fs: of the integrator.
        time_ps: length of the run.
        frames: at which forces are compared.
        seed: of the thermostat.
        friction_per_ps: of the thermostat.
        pairs: atoms whose distances are recorded.

    Returns:
        The summary (its drift has no meaning), and temperature (K) and distances (Angstrom) every 10 fs [n, 1 + len(pairs)].
    """
    atoms = atoms.copy()
    set_maxwell_velocities(atoms, temperature_K, seed=seed, conserves_momentum=False)
    atoms.calc = calculator
    dynamics = Langevin(
        atoms,
        timestep_fs * units.fs,
        temperature_K=temperature_K,
        friction=friction_per_ps / (1000.0 * units.fs),
        rng=np.random.default_rng(seed),
        fixcm=False,
    )
    samples: list[list[float]] = []
    dynamics.attach(
        lambda: samples.append([atoms.get_temperature(), *(atoms.get_distance(i, j) for i, j in pairs)]),
        interval=max(1, round(10.0 / timestep_fs)),
    )
    run, _ = _follow(atoms, dynamics, reference, name, temperature_K, timestep_fs, time_ps, frames)
    return run, np.array(samples)


def _follow(
    atoms: Atoms,
    dynamics: MolecularDynamics,
    reference: MLFFCalculator | None,
    name: str,
    temperature_K: float,
    timestep_fs: float,
    time_ps: float,
    frames: int,
) -> tuple[Run, NDArray[np.float64]]:
    """Make the steps, and collect energies and force errors; time spent on the reference is not counted."""
    calculator: MLFFCalculator = atoms.calc
    n_steps = round(time_ps * 1000.0 / timestep_fs)
    atoms.get_forces()
    dynamics.run(1)  # the first step after a cold start is solved like one: it is not what a trajectory costs
    calculator.stats.reset()
    energies, temperatures, errors, spent = [], [], [], 0.0
    block = max(1, n_steps // max(1, frames))
    every = max(1, round(2.0 / timestep_fs))

    def record() -> None:
        if dynamics.nsteps % every == 0:
            energies.append((dynamics.nsteps * timestep_fs / 1000.0, atoms.get_total_energy()))
            temperatures.append(atoms.get_temperature())

    dynamics.attach(record, interval=1)
    for _ in range(n_steps // block):
        start = time.perf_counter()
        dynamics.run(block)
        spent += time.perf_counter() - start
        if reference is not None:
            exact = reference.evaluate(atoms)["forces"]
            errors.append(np.mean((atoms.get_forces(apply_constraint=False) - exact) ** 2))
    stats, made = calculator.stats, n_steps // block * block
    points = np.array(energies)
    drift = energy_drift(points[:, 0], points[:, 1], len(atoms))
    line = np.polyval(np.polyfit(points[:, 0], points[:, 1], 1), points[:, 0])
    run = Run(
        name=name,
        temperature_K=temperature_K,
        timestep_fs=timestep_fs,
        time_ps=time_ps,
        n_forward=stats.n_forward / made,
        n_adjoint=stats.n_adjoint / made,
        ms=1000.0 * spent / made,
        model_ms=1000.0 * stats.model_s / max(1, stats.n_calls),
        drift=drift.slope,
        drift_error=drift.error,
        noise=1000.0 * float(np.std(points[:, 1] - line)) / len(atoms),
        force_rmse=1000.0 * float(np.sqrt(np.mean(errors))) if errors else float("nan"),
        mean_temperature_K=float(np.mean(temperatures)),
        n_cold=stats.n_cold,
        n_repeats=stats.n_repeats,
    )
    logger.info("%s", run)
    return run, points


def reversal(
    atoms: Atoms, calculator: MLFFCalculator, *, temperature_K: float, timestep_fs: float, time_ps: float
) -> float:
    """Largest distance (Angstrom) from the start after a run, a flip of all velocities, and the same run back."""
    atoms = atoms.copy()
    set_maxwell_velocities(atoms, temperature_K, seed=0)
    atoms.calc = calculator
    start = atoms.positions.copy()
    for _ in range(2):
        VelocityVerlet(atoms, timestep_fs * units.fs).run(round(time_ps * 1000.0 / timestep_fs))
        atoms.set_velocities(-atoms.get_velocities())
    return float(np.linalg.norm(atoms.positions - start, axis=1).max())
