"""Effects of the reuse of fixed points on trajectories: time, evaluations, force errors and drift.

All variants of reuse start from the same atoms and velocities. The drift is that of the total energy, computed with the
energy of the calculator. Force errors are deviations from a cold solve in float64 to a relative residual of 1e-10, on frames
of the same trajectory.
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
from mlff_calc.calculators.shadow import Shadow
from mlff_calc.dynamics.observables import energy_drift
from mlff_calc.dynamics.velocities import set_maxwell_velocities
from mlff_calc.errors import OptionError
from mlff_calc.heads.fields import MOST_PRODUCTS
from mlff_calc.potential import Potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.shadow import with_products

logger = logging.getLogger(__name__)

SETTLED = 8
"""Number of steps before measurements begin: the first step of a fixed point is solved, and six of shadow dynamics."""
TIGHT = 1e-10
"""Relative residual of the reference; a larger value makes it faster and less accurate."""


@dataclass(frozen=True)
class Run:
    """Measurements of a trajectory with one variant of reuse.

    Attributes:
        name: Name of the variant.
        temperature_K: Nominal temperature of the run, or temperature of the thermostat.
        timestep_fs: Time step.
        time_ps: Length of the run.
        n_forward, n_adjoint: Evaluations per step after the first step, including those of repeats and cold solves.
        ms: Wall time per step.
        model_ms: Wall time per step in the model.
        drift, drift_error: Drift of the total energy and its standard error, meV/atom/ps.
        noise: Standard deviation of the total energy about the fitted line, meV/atom.
        force_rmse: Root mean square deviation from the forces of the reference, over components and frames, meV/Angstrom.
        mean_temperature_K: Mean temperature of the run.
        n_cold: Number of solves from scratch.
        n_repeats: Number of steps that were solved again.
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
        """Return all fields by name."""
        return asdict(self)


def reference_of(potential: Potential) -> MLFFCalculator:
    """Make a calculator that solves every structure from scratch to `TIGHT` in float64.

    Raises:
        OptionError: The potential has neither a fixed point nor fields.
    """
    tight = potential.to_precision("float64")
    if tight.fields is not None:
        return MLFFCalculator(with_products(tight, MOST_PRODUCTS), precision="float64", reuse="none", device="cpu")
    if not isinstance(tight, FixedPointPotential):
        raise OptionError("reuse is studied with potentials that have a fixed point (backbone deq) or fields")
    tight.backbone.tolerance = TIGHT
    tight.backbone.solver = replace(tight.backbone.solver, max_evaluations=200)
    return MLFFCalculator(tight, precision="float64", reuse="none", device="cpu")


def calculator_of(potential: Potential, reuse: Reuse | Shadow | str, *, compiled: bool, precision: str) -> MLFFCalculator:
    """Make a calculator for one variant of reuse."""
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
    """Run dynamics at constant energy.

    Args:
        atoms: Initial structure at a minimum, which is copied. Velocities of twice `temperature_K` are drawn with seed 0;
            half of the kinetic energy becomes potential energy.
        calculator: Calculator to test.
        reference: Calculator for force errors; None skips them.
        name: Name of the variant of reuse.
        temperature_K: Nominal temperature.
        timestep_fs: Time step.
        time_ps: Length of the run.
        frames: Number of frames at which forces are compared.

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
    """Run Langevin dynamics.

    Args:
        atoms: Initial structure, which is copied.
        calculator: Calculator to test.
        reference: Calculator for force errors; None skips them.
        name: Name of the variant of reuse.
        temperature_K: Temperature of the thermostat.
        timestep_fs: Time step.
        time_ps: Length of the run.
        frames: Number of frames at which forces are compared.
        seed: Seed of velocities and thermostat.
        friction_per_ps: Friction of the thermostat.
        pairs: Pairs of atoms whose distances are recorded.

    Returns:
        The summary, in which the drift has no meaning, and temperature (K) and distances (Angstrom) every 10 fs,
        [n, 1 + len(pairs)].
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
    """Make the steps, and collect energies and force errors; the time of the reference is not counted."""
    calculator: MLFFCalculator = atoms.calc
    n_steps = round(time_ps * 1000.0 / timestep_fs)
    atoms.get_forces()
    dynamics.run(SETTLED)  # first steps are solved like a cold start, so they are not counted
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
    logger.info("%s, %g K: drift %.3f +- %.3f meV/atom/ps, %.2f ms", name, temperature_K, run.drift, run.drift_error, run.ms)
    return run, points


def reversal(
    atoms: Atoms, calculator: MLFFCalculator, *, temperature_K: float, timestep_fs: float, time_ps: float
) -> float:
    """Return the largest distance (Angstrom) from the start after a run, a reversal of all velocities, and a second run."""
    atoms = atoms.copy()
    set_maxwell_velocities(atoms, temperature_K, seed=0)
    atoms.calc = calculator
    start = atoms.positions.copy()
    for _ in range(2):
        VelocityVerlet(atoms, timestep_fs * units.fs).run(round(time_ps * 1000.0 / timestep_fs))
        atoms.set_velocities(-atoms.get_velocities())
    return float(np.linalg.norm(atoms.positions - start, axis=1).max())
