"""Costs of trained networks in use: time of a step (measured in turns), peak memory, and drift of the total energy."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.optimize import BFGS

from mlff_calc.bench.models import make_calculator
from mlff_calc.bench.motion import moving_frames
from mlff_calc.bench.reuse import nve
from mlff_calc.bench.scaling import in_child
from mlff_calc.calculators import MLFFCalculator
from mlff_calc.errors import MLFFError

logger = logging.getLogger(__name__)

TURN = 8
"""Consecutive steps of a potential in a round, of which the first is not counted. More steps make longer rounds."""
TEMPERATURE_K = 300.0
"""Nominal temperature of runs that measure the drift; a larger value makes the drift larger."""
TIMESTEP_FS = 0.5
"""Time step of these runs; a larger value makes the drift larger."""


def time_in_turns(
    atoms: Atoms, folders: dict[str, Path], rounds: int, compiled: bool = True
) -> dict[str, dict[str, float]]:
    """Time a step of each potential. They take turns on the same frames, in an order that is reversed in every round.

    Args:
        atoms: Structure to time.
        folders: Folders of the runs, by name.
        rounds: Number of rounds of `TURN` steps each, after a first round that is not counted.
        compiled: Whether compiled potentials are timed.

    Returns:
        For each name `step_ms` and `step_min_ms` (median and minimum of the CPU time), `wall_ms` (median), and `ratio` to
        the first potential.
    """
    calculators = {name: make_calculator(str(path / "potential"), compiled=compiled) for name, path in folders.items()}
    bodies = {name: atoms.copy() for name in calculators}
    frames = moving_frames(atoms, TURN * (rounds + 1)).reshape(rounds + 1, TURN, len(atoms), 3)
    times = {name: np.empty((rounds + 1, TURN, 2)) for name in calculators}
    for turn, chunk in enumerate(frames):
        for name in calculators if turn % 2 == 0 else reversed(calculators):
            times[name][turn] = _seconds(bodies[name], calculators[name], chunk)
    counted = {name: 1e3 * values[1:, 1:] for name, values in times.items()}
    first = np.median(next(iter(counted.values()))[..., 0], axis=1)
    return {
        name: {
            "step_ms": float(np.median(ms[..., 0])),
            "step_min_ms": float(ms[..., 0].min()),
            "wall_ms": float(np.median(ms[..., 1])),
            "ratio": float(np.median(np.median(ms[..., 0], axis=1) / first)),
        }
        for name, ms in counted.items()
    }


def _seconds(atoms: Atoms, calculator: MLFFCalculator, frames: np.ndarray) -> np.ndarray:
    """Return CPU and wall time of the step of each frame, seconds [n, 2]."""
    atoms.calc = calculator
    found = []
    for positions in frames:
        atoms.positions[:] = positions
        start = time.process_time(), time.perf_counter()
        atoms.get_forces()
        atoms.get_potential_energy()
        found.append((time.process_time() - start[0], time.perf_counter() - start[1]))
    return np.array(found)


def memory(system: str, folder: Path, *, compiled: bool = True) -> dict[str, float]:
    """Measure the peak memory of eager training steps with the recipe's batch, and of steps of a calculator, MiB."""
    recipe = yaml.safe_load(folder.with_name(f"{folder.name}.yaml").read_text(encoding="utf-8"))
    shared = {"system": system, "potential": str(folder / "potential"), "threads": 1}
    batch_size = recipe["optimizer"]["batch_size"]
    learn = in_child(task="training", batch_size=batch_size, steps=3, compiled=False, **shared)
    use = in_child(task="step", steps=10, compiled=compiled, **shared)
    return {
        "train_mib": learn["memory_mib"], "train_base_mib": learn["base_mib"],
        "step_mib": use["memory_mib"], "step_base_mib": use["base_mib"],
    }  # fmt: skip


def drift(atoms: Atoms, folder: Path, *, time_ps: float, compiled: bool = True) -> dict[str, Any]:
    """Measure the drift of the total energy in NVE dynamics with 0.5 fs at about 300 K.

    The run starts at the minimum with velocities of 600 K. If the potential breaks the structure or yields values that are
    not finite, `drift` is None, and `drift_note` gives the reason.
    """
    empty: dict[str, Any] = {"drift": None, "drift_error": None, "temperature_K": None}
    calculator = make_calculator(str(folder / "potential"), compiled=compiled)
    try:
        run, _ = nve(
            _relaxed(folder, atoms),
            calculator,
            None,
            name=folder.name,
            temperature_K=TEMPERATURE_K,
            timestep_fs=TIMESTEP_FS,
            time_ps=time_ps,
        )
    except (MLFFError, ArithmeticError) as error:
        logger.warning("%s: %s", folder.name, error)
        return empty | {"drift_note": f"ended by {type(error).__name__}"}
    if not math.isfinite(run.drift) or run.mean_temperature_K > 10.0 * TEMPERATURE_K:
        return empty | {"temperature_K": run.mean_temperature_K, "drift_note": "the structure flew apart"}
    return {
        "drift": run.drift,
        "drift_error": run.drift_error,
        "temperature_K": run.mean_temperature_K,
        "drift_note": "",
    }


def _relaxed(folder: Path, atoms: Atoms) -> Atoms:
    """Return the structure at the minimum of the potential, where velocities of twice a temperature give a run at it."""
    moved = atoms.copy()
    moved.calc = make_calculator(str(folder / "potential"), precision="float64")
    BFGS(moved, logfile=None).run(fmax=0.01, steps=300)
    moved.calc = None
    return moved
