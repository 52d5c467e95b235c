"""Born-Oppenheimer dynamics with each start of the SCF, from the same structure and velocities: cost and drift of energy.

The series of each start is kept in a file, so that a study that was stopped goes on with the next start.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from mlff_calc.bench.studies.kept import keep_settings
from mlff_calc.calculators.scf import SCFCalculator
from mlff_calc.charges import charge_of
from mlff_calc.dynamics.observables import energy_drift, shadow_energy
from mlff_calc.dynamics.velocities import set_maxwell_velocities
from mlff_calc.electronic.scf.guess import PredictsFock
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import BenchmarkError
from mlff_calc.version import __version__
from mlff_calc.whole_files import write_whole

STARTS = ("minao", "previous", "aspc", "model", "model+aspc")
"""Starts that are compared by default."""
COUNTS = ("cycles", "fock_builds", "fallbacks", "retries")


@dataclass(frozen=True)
class DynamicsRow:
    """What one start cost, and how well energy is conserved. Numbers are means over the steps that count.

    Attributes:
        start: Name of the start.
        steps: Number of steps that count.
        cycles: Number of cycles of a step.
        fock_builds: Number of Fock builds of a step, with those of guesses and guard.
        scf_seconds: Processor seconds of the SCF with its start; elapsed times give its share of a step.
        seconds: Processor seconds of a step.
        drift: Slope of the shadow energy, meV/atom/ps.
        drift_error: Standard error of this slope for independent residuals.
        plain_drift: Slope of the total energy, whose oscillation hides small drifts in short runs, meV/atom/ps.
        plain_drift_error: Standard error of this slope.
        from_minao: Largest difference of total energies from the run with minao, meV/atom; NaN without one.
        fallbacks: Number of starts replaced by minao.
        retries: Number of SCFs that were repeated.
    """

    start: str
    steps: int
    cycles: float
    fock_builds: float
    scf_seconds: float
    seconds: float
    drift: float
    drift_error: float
    plain_drift: float
    plain_drift_error: float
    from_minao: float
    fallbacks: int
    retries: int

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class SCFDynamics:
    """Runs at constant energy that differ in the start of the SCF.

    Attributes:
        atoms: Initial structure, a closed-shell molecule; its charge is `info['charge']`.
        settings: Level of theory.
        output: Folder for results.
        starts: Names of starts, see `Starter`.
        model: Model for starts that need one.
        model_name: How the model is named in what is kept, with the hash of its weights, since it may be trained again.
        steps: Number of steps.
        skip: Number of first steps that do not count, while memories fill.
        timestep: Time step, fs.
        temperature: Temperature of the initial velocities, K.
        seed: Seed of the initial velocities.
        order: Order of extrapolations, 0 to 4.
    """

    atoms: Atoms
    settings: SCFSettings
    output: Path
    starts: Sequence[str] = STARTS
    model: PredictsFock | None = None
    model_name: str = ""
    steps: int = 200
    skip: int = 20
    timestep: float = 0.5
    temperature: float = 300.0
    seed: int = 0
    order: int = 3

    def run(self, on_step: Callable[[str, int], None] | None = None) -> list[DynamicsRow]:
        """Run the starts that are not kept yet; one row for each.

        Args:
            on_step: Function that is called with the start and the number of steps that are done.

        Raises:
            BenchmarkError: There are too few steps, no start, or the folder holds results of other settings.
            OptionError: A start is unknown or lacks its model.
            StructureError, UnknownElementError, ConvergenceError: See `SCFCalculator`.
        """
        if not self.starts:
            raise BenchmarkError("there are no starts; give at least one")
        if self.skip < 0 or self.steps < self.skip + 5:
            raise BenchmarkError(f"{self.steps} steps with {self.skip} that do not count are too few; give 5 more of them")
        keep_settings(self.output, self._how())
        series = {start: self._series(start, on_step) for start in dict.fromkeys(self.starts)}
        return [self._row(start, found, series.get("minao")) for start, found in series.items()]

    def _how(self) -> dict[str, Any]:
        level = {name: value for name, value in self.settings.to_dict().items() if name != "max_cycle"}
        structure = {"numbers": self.atoms.numbers.tolist(), "positions": self.atoms.positions.tolist()}
        names = ("steps", "skip", "timestep", "temperature", "seed", "order")
        run = {name: getattr(self, name) for name in names}
        return {**structure, "charge": charge_of(self.atoms), **level, **run, "version": __version__}

    def _series(self, start: str, on_step: Callable[[str, int], None] | None) -> dict[str, Any]:
        """Series of a start: those that are kept, or those of a new run."""
        file = self.output / f"{start.replace('+', '_')}.json"
        model = self._model() if start.startswith("model") else ""
        try:
            kept = dict(json.loads(file.read_text()))
        except (OSError, ValueError):  # there is none, or it is damaged
            kept = {"model": model, "series": self._follow(start, on_step)}
            write_whole(file, json.dumps(kept))
        if kept["model"] != model:
            raise BenchmarkError(f"{file} is of the model {kept['model']}, not {model}; choose another --output")
        return dict(kept["series"])

    def _model(self) -> str:
        """The model in what is kept: results of another one are refused."""
        mark = getattr(self.model, "sha256", "")
        return f"{self.model_name} ({mark[:12]})" if mark else self.model_name

    def _follow(self, start: str, on_step: Callable[[str, int], None] | None) -> dict[str, Any]:
        """Make the steps. Series are of all steps, their first value being that of the initial structure."""
        names = ("xc", "basis", "grid_level", "conv_tol", "density_fit", "max_cycle")
        level = {name: getattr(self.settings, name) for name in names}
        model = self.model if start.startswith("model") else None
        charge = charge_of(self.atoms)
        atoms = self.atoms.copy()
        set_maxwell_velocities(atoms, self.temperature, seed=self.seed)
        atoms.calc = calculator = SCFCalculator(start=start, model=model, charge=charge, order=self.order, **level)
        dynamics = VelocityVerlet(atoms, self.timestep * units.fs)
        found: dict[str, list[Any]] = {name: [] for name in ("energies", "seconds", "scf_seconds", "velocities", "forces")}
        counts: dict[str, list[int]] = {name: [] for name in COUNTS}
        for step in range(self.steps + 1):
            before, begin = calculator.stats.as_dict(), time.process_time()
            if step:
                dynamics.run(1)
            forces = atoms.get_forces()
            found["seconds"].append(time.process_time() - begin)
            after = calculator.stats.as_dict()
            for name in COUNTS:
                counts[name].append(int(after[name] - before[name]))
            solving, gradient = (after[name] - before[name] for name in ("seconds", "gradient_seconds"))
            found["scf_seconds"].append(found["seconds"][-1] * solving / (solving + gradient))
            found["energies"].append(float(atoms.get_total_energy()))
            found["velocities"].append(atoms.get_velocities().tolist())
            found["forces"].append(forces.tolist())
            if on_step is not None:
                on_step(start, step)
        return {**found, **counts}

    def _row(self, start: str, series: dict[str, Any], reference: dict[str, Any] | None) -> DynamicsRow:
        counted = slice(self.skip + 1, None)
        energies, n = np.array(series["energies"])[counted], len(self.atoms)
        times = np.arange(len(energies)) * self.timestep / 1000.0
        plain = energy_drift(times, energies, n)
        velocities, forces = (np.array(series[name])[counted] for name in ("velocities", "forces"))
        smooth = shadow_energy(energies, velocities, forces, self.atoms.get_masses(), self.timestep * units.fs)
        shadow = energy_drift(times[1:-1], smooth, n)
        means = {name: float(np.mean(series[name][counted])) for name in ("cycles", "fock_builds", "seconds", "scf_seconds")}
        apart = math.nan
        if reference is not None:
            apart = 1000.0 * float(np.abs(energies - np.array(reference["energies"])[counted]).max()) / n
        return DynamicsRow(
            start, len(energies), **means, drift=shadow.slope, drift_error=shadow.error, plain_drift=plain.slope,
            plain_drift_error=plain.error, from_minao=apart, fallbacks=sum(series["fallbacks"][counted]),
            retries=sum(series["retries"][counted]),
        )  # fmt: skip
