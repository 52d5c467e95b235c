"""A rollout beside dynamics with a potential: error against time, and time per trajectory.

Errors are root mean squares of positions about the centre of mass, which a thermostat of the trajectory may have moved. A
rollout goes on beyond its horizon from its own predictions (`chain`); where it loses the bonds of some starts, its errors
are of the others, and a row counts them. An unrelated frame of the trajectory shows how large errors grow: a row that comes
near it knows nothing any more.

Times are processor times of one thread. The rollout makes all trajectories to its horizon; dynamics with the compiled
potential make the same trajectories, all in one batch, in steps of which some are timed and the others counted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from numpy.typing import NDArray
from torch import Tensor

from mlff_calc.bench.threads import limited_threads
from mlff_calc.datasets.motion.windows import Windows
from mlff_calc.errors import BenchmarkError
from mlff_calc.ode import verlet
from mlff_calc.rollout import Rollout, load_rollout, trajectories
from mlff_calc.sampling import Evaluator, Systems, evaluator_of
from mlff_calc.training.rollout.baselines import MOST_STEP, Forces, OwnDynamics, States
from mlff_calc.training.rollout.evaluate import check_windows, trained_windows

LOST = "starts of which the rollout lost the bonds"
WARM_STEPS = 3
"""Steps of the dynamics before those that are timed."""


@dataclass(frozen=True)
class Trajectories:
    """What is compared.

    Attributes:
        rollout: Name or folder of the rollout.
        data: Trajectory in the layout of MD17, whose test part is predicted.
        calculator: Name or folder of a potential.
        times: Times at which errors are taken, fs.
        starts: Number of first frames whose errors are averaged; 0 for no errors.
        counts: Numbers of trajectories that are timed; empty for no times.
        n_times: Numbers of later times that are timed with the largest count, the first one with all counts.
        steps: Number of steps of the dynamics that are timed.
    """

    rollout: str
    data: Path
    calculator: str
    times: tuple[float, ...] = (10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
    starts: int = 20
    counts: tuple[int, ...] = (250, 1000)
    n_times: tuple[int, ...] = (8, 32)
    steps: int = 10

    def measure(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `errors` and of `times`.

        Raises:
            BenchmarkError: There is no such file, or it is shorter than the times need.
            DatasetError: It holds another molecule than the rollout.
            PotentialFileError: There is no such rollout or potential.
        """
        if not (self.starts or self.counts):
            raise BenchmarkError("neither errors nor times are asked for; give --starts or --counts above 0")
        if not self.data.is_file():
            raise BenchmarkError(f"there is no file {self.data}; check the spelling, or make one by `mlff data trajectory`")
        rollout = load_rollout(self.rollout).eval()
        if rollout.config["heavy_atoms"]:
            raise BenchmarkError(f"{self.rollout} knows heavy atoms only, and dynamics need all atoms; take another rollout")
        with limited_threads(1):
            windows = trained_windows(self.rollout, rollout, self.data, "test", max(self.counts, default=1))
            check_windows(rollout, windows)
            forces = _forces(evaluator_of(self.calculator, compile=bool(self.counts)), rollout)
            return {
                "errors": self._errors(rollout, windows, forces) if self.starts else [],
                "times": self._times(rollout, windows, forces) if self.counts else [],
            }

    def _errors(self, rollout: Rollout, windows: Windows, forces: Forces) -> list[dict[str, Any]]:
        run = windows.run
        ahead = np.unique(np.round(np.array(self.times) / run.timestep).astype(np.int64))
        low, high = windows.span[0], len(run.positions) - int(ahead[-1])
        if high - low < 2 or ahead[0] < 1:
            raise BenchmarkError(
                f"{self.data}: {ahead[-1] * run.timestep:g} fs do not fit into the test part of its "
                f"{len(run.positions)} frames, or the first time is shorter than a frame; give other --times"
            )
        starts = np.linspace(low, high - 1, self.starts).astype(np.int64)
        times = np.asarray(ahead * run.timestep, dtype=np.float64)
        truth = run.positions[starts[:, None] + ahead]
        found = {
            "rollout": trajectories(rollout, _structures(rollout, windows, starts), times.tolist(), chain=True).positions,
            f"MD with {Path(self.calculator).name}": _dynamics(rollout, windows, forces, starts, times),
            "first frame": np.broadcast_to(run.positions[starts][:, None], truth.shape),
            "unrelated frame": run.positions[(low + (starts - low + (high - low) // 2) % (high - low))[:, None] + ahead],
        }
        shares = rollout.masses.numpy() / float(rollout.masses.sum())

        def about_centre(positions: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(positions - np.einsum("a,...ad->...d", shares, positions)[..., None, :], dtype=np.float64)

        rows: list[dict[str, Any]] = []
        lost = np.isnan(found["rollout"]).any(axis=(2, 3)).sum(axis=0)
        for name, positions in found.items():
            square = np.square(about_centre(positions) - about_centre(truth)).mean(axis=(2, 3))
            with np.errstate(invalid="ignore"):  # nan where all are lost
                error = np.sqrt(np.nansum(square, axis=0) / (~np.isnan(square)).sum(axis=0))
            rows.append({"row": name} | {f"{t:g}": float(e) for t, e in zip(times, error, strict=True)})
        if lost.any():
            rows.append({"row": LOST} | {f"{t:g}": int(n) for t, n in zip(times, lost, strict=True)})
        return rows

    def _times(self, rollout: Rollout, windows: Windows, forces: Forces) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        most = max(self.counts)
        structures = _structures(rollout, windows, np.resize(windows.starts, most))
        plan = [(count, self.n_times[0]) for count in sorted(self.counts)] + [(most, n) for n in self.n_times[1:]]
        trajectories(rollout, structures[:10], [rollout.horizon])  # warms up
        for count, n_times in plan:
            asked = rollout.horizon * np.arange(1, n_times + 1) / n_times
            began = time.process_time()
            trajectories(rollout, structures[:count], asked.tolist())
            rows.append(_row("rollout", count, n_times, time.process_time() - began))
        steps = round(rollout.horizon / MOST_STEP)
        starts = np.resize(windows.starts, most)
        x, v = (torch.from_numpy(np.asarray(one[starts])) for one in (windows.run.positions, windows.run.velocities))
        pull = units.fs**2 / rollout.masses[:, None]
        states = verlet(lambda x: pull * forces(x), x, v, MOST_STEP)
        for _ in range(WARM_STEPS + 1):
            next(states)
        began = time.process_time()
        for _ in range(self.steps):
            next(states)
        seconds = (time.process_time() - began) * steps / self.steps
        name = f"MD with {Path(self.calculator).name}, compiled ({self.steps} of {steps} steps timed)"
        rows.append(_row(name, most, self.n_times[0], seconds))
        aim = next(row["seconds"] for row in rows if (row["trajectories"], row["n_times"]) == (most, self.n_times[0]))
        return [row | {"ratio": row["seconds"] / aim} for row in rows]


def _forces(evaluator: Evaluator, rollout: Rollout) -> Forces:
    """Forces on many copies of the molecule of a rollout, one batch for each number of copies."""
    numbers = rollout.config["numbers"]
    copies: dict[int, Systems] = {}

    def forces(x: Tensor) -> Tensor:
        if len(x) not in copies:
            copies[len(x)] = Systems.of([Atoms(numbers=numbers, positions=one) for one in x.numpy()])[0]
            evaluator.check(copies[len(x)])
        found = evaluator(copies[len(x)], np.ascontiguousarray(x.flatten(0, 1).numpy()))
        for number, why in found.problems.items():
            raise BenchmarkError(f"trajectory {number} of the dynamics: {why}")
        return torch.from_numpy(found.forces).double().view(x.shape)

    return forces


def _dynamics(
    rollout: Rollout, windows: Windows, forces: Forces, starts: NDArray[np.int64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    run = windows.run
    x, v = (torch.from_numpy(np.asarray(one[starts])) for one in (run.positions, run.velocities))
    states = States(x, v, torch.from_numpy(times).expand(len(starts), -1))
    return OwnDynamics(forces, float(times[-1]))(states, rollout.masses).x.numpy()


def _row(name: str, count: int, n_times: int, seconds: float) -> dict[str, Any]:
    return {"row": name, "trajectories": count, "n_times": n_times, "seconds": seconds, "ms": 1000.0 * seconds / count}


def _structures(rollout: Rollout, windows: Windows, starts: NDArray[np.int64]) -> list[Atoms]:
    run = windows.run
    found = []
    for start in starts.tolist():
        atoms = Atoms(run.numbers, run.positions[start], masses=rollout.masses.numpy())
        atoms.set_velocities(run.velocities[start] / units.fs)
        found.append(atoms)
    return found
