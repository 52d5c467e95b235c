"""Study of the reuse of fixed points: variants, temperatures, time steps, reversal, distributions; tables and plots."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from numpy.typing import NDArray

from mlff_calc.bench.reuse import Run, calculator_of, langevin, nve, reference_of, reversal
from mlff_calc.calculators.reuse import Reuse
from mlff_calc.potential import Potential

logger = logging.getLogger(__name__)

WINDOW = 6
"""Number of earlier steps in the compiled step, which all predictors share. A larger value allows longer predictors."""


def ways(counts: Sequence[int] = (2, 3, 4), predictors: Sequence[str] = ("previous", "quadratic", "least_squares4"), *,
         cold: Sequence[int] = (6, 8), kept: int = 4) -> dict[str, Reuse]:  # fmt: skip
    """Return variants of reuse by name: each predictor with each count of evaluations, and cold solves of fixed counts.

    A step is repeated only if its residual exceeds 0.1, so that repeats hardly affect the measurement.
    """
    found = {
        f"{predictor} {n}+{n}": Reuse(predictor, n, n, kept=kept, window=WINDOW, tolerance=0.1)
        for n in counts
        for predictor in predictors
    }
    return found | {f"cold {n}+{n}": Reuse("none", n, n, kept=0, tolerance=0.5) for n in cold}


@dataclass
class Study:
    """Results of a study.

    Attributes:
        runs: Runs at constant energy.
        traces: Total energies of these runs, by name, temperature and time step.
        thermostatted: Runs of Langevin dynamics.
        samples: Temperatures and distances of these runs, by name and temperature.
        reversals: Distances from the start after a run forward and back, by name, Angstrom.
    """

    runs: list[Run] = field(default_factory=list)
    traces: dict[tuple[str, float, float], NDArray[np.float64]] = field(default_factory=dict)
    thermostatted: list[Run] = field(default_factory=list)
    samples: dict[tuple[str, float], NDArray[np.float64]] = field(default_factory=dict)
    reversals: dict[str, float] = field(default_factory=dict)


def relaxed(potential: Potential, atoms: Atoms) -> Atoms:
    """Return the structure at the minimum of the potential, where velocities of twice a temperature give a run at it."""
    moved = atoms.copy()
    moved.calc = calculator_of(potential, "conservative", compiled=False, precision="float64")
    BFGS(moved, logfile=None).run(fmax=0.01, steps=200)
    moved.calc = None
    return moved


def constant_energy(
    study: Study,
    potential: Potential,
    atoms: Atoms,
    chosen: dict[str, Reuse],
    *,
    temperatures: Iterable[float],
    timesteps: Iterable[float],
    time_ps: float,
    compiled: bool,
    frames: int = 40,
) -> None:
    """Add runs at constant energy to a study. All runs at a temperature have the same start."""
    reference = reference_of(potential)
    for temperature in temperatures:
        for timestep in timesteps:
            for name, reuse in chosen.items():
                calculator = calculator_of(potential, reuse, compiled=compiled, precision="float32")
                run, trace = nve(
                    atoms,
                    calculator,
                    reference,
                    name=name,
                    temperature_K=temperature,
                    timestep_fs=timestep,
                    time_ps=time_ps,
                    frames=frames,
                )
                study.runs.append(run)
                study.traces[name, temperature, timestep] = trace


def thermostat(
    study: Study,
    potential: Potential,
    atoms: Atoms,
    chosen: dict[str, Reuse],
    *,
    temperatures: Iterable[float],
    time_ps: float,
    compiled: bool,
    pairs: Sequence[tuple[int, int]],
    frames: int = 40,
) -> None:
    """Add Langevin runs to a study; the first tenth of their samples is left out."""
    reference = reference_of(potential)
    for temperature in temperatures:
        for name, reuse in chosen.items():
            run, samples = langevin(
                atoms,
                calculator_of(potential, reuse, compiled=compiled, precision="float32"),
                reference,
                name=name,
                temperature_K=temperature,
                timestep_fs=0.5,
                time_ps=time_ps,
                frames=frames,
                pairs=pairs,
            )
            study.thermostatted.append(run)
            study.samples[name, temperature] = samples[len(samples) // 10 :]


def there_and_back(
    study: Study,
    potential: Potential,
    atoms: Atoms,
    chosen: dict[str, Reuse | str],
    *,
    compiled: bool,
    time_ps: float = 1.0,
) -> None:
    """Add tests of time reversal in float64 at 300 K to a study."""
    for name, reuse in chosen.items():
        calculator = calculator_of(potential, reuse, compiled=compiled, precision="float64")
        study.reversals[name] = reversal(atoms, calculator, temperature_K=300.0, timestep_fs=0.5, time_ps=time_ps)
        logger.info("reversal %s: %.3g Angstrom", name, study.reversals[name])


def write_table(runs: Sequence[Run], path: Path) -> None:
    """Write runs as CSV."""
    rows: list[dict[str, Any]] = [run.as_dict() for run in runs]
    if not rows:
        return
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: f"{v:.5g}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)


def plot(study: Study, folder: Path, title: str) -> None:
    """Draw energies, drift against time per step, and distributions, as PNG files in `folder`."""
    from matplotlib.figure import Figure

    if study.runs:
        figure = Figure(figsize=(11.0, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        temperature, timestep = study.runs[0].temperature_K, 0.5
        for run in study.runs:
            if (run.temperature_K, run.timestep_fs) == (temperature, timestep):
                points = study.traces[run.name, temperature, timestep]
                shift = 1000.0 * (points[:, 1] - points[0, 1])
                left.plot(points[:, 0], shift, linewidth=0.8, label=run.name)
        left.set(xlabel="time, ps", ylabel="total energy, meV", title=f"{title}, {temperature:g} K, {timestep:g} fs")
        left.set_yscale("symlog", linthresh=5.0)
        left.legend(fontsize=7, ncols=2)
        for run in study.runs:
            place = (run.ms, max(abs(run.drift), 1e-4))
            right.plot(*place, "o" if run.name.startswith("cold") else "s", markersize=4)
            label = f"{run.name}, {run.temperature_K:g} K, {run.timestep_fs:g} fs"
            right.annotate(label, place, fontsize=5, xytext=(3, 2), textcoords="offset points")
        right.set(xlabel="ms per step", ylabel="|drift|, meV/atom/ps", yscale="log", title="drift against time")
        right.axhline(0.1, color="0.6", linewidth=0.8)
        figure.savefig(folder / "reuse_drift.png", dpi=140)
    if study.samples:
        columns = next(iter(study.samples.values())).shape[1]
        figure = Figure(figsize=(4.2 * columns, 3.6), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        for (name, temperature), samples in study.samples.items():
            for column, axis in enumerate(axes):
                axis.hist(
                    samples[:, column], bins=40, density=True, histtype="step", label=f"{name}, {temperature:g} K"
                )
        for column, axis in enumerate(axes):
            axis.set(xlabel="temperature, K" if column == 0 else "distance, Angstrom", ylabel="density")
        axes[0].legend(fontsize=6)
        figure.savefig(folder / "reuse_distributions.png", dpi=140)
