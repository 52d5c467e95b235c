"""Backbones as force fields: trained for the same minutes on rMD17 molecules, then judged beside each other.

Every backbone gets the same frames, loss, batch and schedule, on one thread, with the sizes a user would begin with:
`equiformer` and `deq` by the recipes of the shipped potentials, `hegnn` and `cg_egnn` by that of `ethanol` with their own
default sizes and a learning rate of their own. Compilation is not counted. Afterwards all are evaluated by one process:

- errors on the test frames, as `mlff train` leaves them;
- time of a step, compiled, float32: the potentials take turns on the same moving frames, a few steps each. CPU time of the
  one thread is counted, so that other programs on the machine do not stand in the figures; wall time is kept beside it;
- peak memory of eager training steps of a batch, and of compiled steps, each in a process of its own;
- drift of the total energy at constant energy, compiled, from the potential's own minimum.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.optimize import BFGS

from mlff_calc.bench.models import make_calculator
from mlff_calc.bench.motion import moving_frames
from mlff_calc.bench.processes import run_logged, thread_environment
from mlff_calc.bench.reuse import nve
from mlff_calc.bench.scaling import in_child
from mlff_calc.bench.step import limited_threads
from mlff_calc.bench.systems import build_system
from mlff_calc.bench.train import find_rmd17
from mlff_calc.calculators import MLFFCalculator
from mlff_calc.errors import BenchmarkError, MLFFError, OptionError
from mlff_calc.networks import shipped_folder
from mlff_calc.potential import load_potential
from mlff_calc.training.files import write_atomic

logger = logging.getLogger(__name__)

MOLECULES = ("ethanol", "aspirin")
TURN = 8
"""Consecutive steps of a potential in a round; the first one is not counted."""
TEMPERATURE_K = 300.0
TIMESTEP_FS = 0.5


@dataclass(frozen=True)
class Entrant:
    """How a backbone is trained: by a shipped recipe, with what is changed in it.

    Attributes:
        recipe: name of the shipped potential. backbone: options that stand in place of the recipe's; empty keeps them.
        learning_rate: None keeps the recipe's.
    """

    recipe: str
    backbone: dict[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None


ENTRANTS: dict[str, Entrant] = {
    "equiformer": Entrant("ethanol"),
    "deq": Entrant("ethanol_deq"),
    "cg_egnn": Entrant("ethanol", {"name": "cg_egnn", "cutoff": 5.0}, learning_rate=0.005),
    "hegnn": Entrant("ethanol", {"name": "hegnn", "cutoff": 5.0}, learning_rate=0.005),
}


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    Attributes:
        minutes: of training, each. molecules: of rMD17. backbones: keys of `ENTRANTS`. output: keeps runs and results.
        data: folder of data sets. rounds: how often potentials take turns in the timing. drift_ps: length of the run at
            constant energy; 0 leaves it out. compiled: train and run compiled code.
    """

    minutes: float
    molecules: Sequence[str]
    backbones: Sequence[str]
    output: Path
    data: Path | None = None
    rounds: int = 40
    drift_ps: float = 10.0
    compiled: bool = True

    def folder(self, molecule: str, backbone: str) -> Path:
        """Folder of a run."""
        return self.output / f"{molecule}-{backbone}-{self.minutes:g}min"


def parse_names(text: str, known: Sequence[str], what: str) -> list[str]:
    """Names out of a comma-separated list, in its order, each once.

    Raises:
        OptionError: nothing named, or a name that is not known.
    """
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        said = f"unknown {what} {wrong[0]!r}" if wrong else f"{text!r} names no {what}"
        msg = f"{said} to compare; known: {', '.join(known)}"
        raise OptionError(msg)
    return names


def compare_force_fields(comparison: Comparison) -> list[dict[str, Any]]:
    """Train what is not trained yet, then evaluate all.

    A run that ended by the same recipe in the same `output` is not repeated; so a comparison that was stopped goes on.

    Returns:
        One dict per molecule and backbone. Of the training: `molecule`, `backbone`, `parameters`, `steps` of the optimizer,
        `force_mae` (meV/Angstrom), `energy_mae` (meV), `wall_minutes` and `cpu_minutes` of the whole process, compilation in
        it, and `cpu_share`, the one over the other: where it is smaller than for others, other programs hindered the run. Of
        a step: `step_ms` and `wall_ms` (medians of CPU and wall time), `step_min_ms`, `ratio` (to the first backbone, median
        over rounds). Of memory: peaks `train_mib` and `step_mib`, and what they start from, `train_base_mib` and
        `step_base_mib`. Of the run at constant energy: `drift`, `drift_error` (meV/atom/ps), `temperature_K`, `drift_note`.

    Raises:
        BenchmarkError: no data, or a training failed.
    """
    for molecule in comparison.molecules:
        find_rmd17(molecule, comparison.data)
    for molecule in comparison.molecules:
        for backbone in comparison.backbones:
            train(comparison, molecule, backbone)
    rows = []
    with limited_threads(1):
        for molecule in comparison.molecules:
            folders = {name: comparison.folder(molecule, name) for name in comparison.backbones}
            timings = time_in_turns(build_system(molecule), folders, comparison.rounds, comparison.compiled)
            for name, folder in folders.items():
                row = {"molecule": molecule, "backbone": name, **outcome(folder), **timings[name]}
                row |= memory(molecule, folder, compiled=comparison.compiled)
                row |= drift(build_system(molecule), folder, comparison)
                rows.append(row)
                logger.info("judged %s of %s", name, molecule)
    return rows


def recipe_of(comparison: Comparison, molecule: str, backbone: str) -> dict[str, Any]:
    """The recipe of a run.

    Raises:
        BenchmarkError: the shipped recipe it starts from is not installed.
    """
    entrant = ENTRANTS[backbone]
    file = shipped_folder() / entrant.recipe / "recipe.yaml"
    if not file.is_file():
        msg = (
            f"the recipe of the shipped potential {entrant.recipe!r} is not installed, so {backbone} cannot be trained"
        )
        raise BenchmarkError(msg)
    recipe: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    if entrant.backbone:
        recipe["potential"]["backbone"] = dict(entrant.backbone)
    for part in ("train", "test"):
        recipe["data"][part]["file"] = f"${{MLFF_DATA}}/rmd17/{molecule}.npz"
    recipe["optimizer"]["max_minutes"] = comparison.minutes
    if entrant.learning_rate is not None:
        recipe["optimizer"]["learning_rate"] = entrant.learning_rate
    recipe["trainer"] |= {"device": "cpu", "compile": comparison.compiled}
    recipe["card"]["title"] = f"{molecule} (rMD17), {backbone}, for comparison"
    recipe["output"] = comparison.folder(molecule, backbone).name
    return recipe


def train(comparison: Comparison, molecule: str, backbone: str) -> None:
    """Train in a process of its own, one thread, unless that has been done.

    Raises:
        BenchmarkError: it failed; names the log.
    """
    folder = comparison.folder(molecule, backbone)
    file, facts = (folder.with_name(folder.name + ending) for ending in (".yaml", ".json"))
    text = yaml.safe_dump(recipe_of(comparison, molecule, backbone), sort_keys=False)
    if facts.is_file() and json.loads(facts.read_text(encoding="utf-8"))["recipe"] == text:
        logger.info("%s of %s has been trained before", backbone, molecule)
        return
    logger.info("training %s on %s for %g minutes", backbone, molecule, comparison.minutes)
    folder.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mlff_calc.cli.main", "train", str(file), "--output", str(folder)]
    data = find_rmd17(molecule, comparison.data).resolve().parents[1]
    start, cpu = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    run_logged(
        [*command, "--quiet", "--overwrite"],
        folder.with_name(f"{folder.name}.log"),
        env={**thread_environment(1), "MLFF_DATA": str(data)},
    )
    took = time.monotonic() - start
    share = (resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - cpu) / took
    facts.write_text(json.dumps({"recipe": text, "wall_minutes": took / 60.0, "cpu_share": share}), encoding="utf-8")


def outcome(folder: Path) -> dict[str, Any]:
    """Size and errors of a run that has ended."""
    errors = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["errors"]
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        steps = max(int(row["step"]) for row in csv.DictReader(stream))
    facts = json.loads(folder.with_name(f"{folder.name}.json").read_text(encoding="utf-8"))
    return {
        "parameters": sum(p.numel() for p in load_potential(folder / "potential").parameters()),
        "steps": steps,
        "wall_minutes": facts["wall_minutes"],
        "cpu_minutes": facts["wall_minutes"] * facts["cpu_share"],
        "cpu_share": facts["cpu_share"],
        "force_mae": errors["forces"]["mae"],
        "energy_mae": errors["energy"]["mae"],
    }


def time_in_turns(
    atoms: Atoms, folders: dict[str, Path], rounds: int, compiled: bool = True
) -> dict[str, dict[str, float]]:
    """Time of a step of each potential; they take turns on the same frames, in an order that turns around.

    Args:
        atoms: the molecule.
        folders: of the runs, by backbone.
        rounds: each of `TURN` steps, of which the first is left out; a first round is left out as well.
        compiled: time compiled potentials.

    Returns:
        By backbone `step_ms` and `step_min_ms` (CPU time), `wall_ms` (medians), and `ratio` to the first backbone.
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
    """CPU and wall time of each step through `frames`, seconds [n, 2]."""
    atoms.calc = calculator
    found = []
    for positions in frames:
        atoms.positions[:] = positions
        start = time.process_time(), time.perf_counter()
        atoms.get_forces()
        atoms.get_potential_energy()
        found.append((time.process_time() - start[0], time.perf_counter() - start[1]))
    return np.array(found)


def memory(molecule: str, folder: Path, *, compiled: bool = True) -> dict[str, float]:
    """Peak memory of training steps of the recipe's batch (eager), and of steps of a calculator, MiB."""
    recipe = yaml.safe_load(folder.with_name(f"{folder.name}.yaml").read_text(encoding="utf-8"))
    shared = {"system": molecule, "potential": str(folder / "potential"), "threads": 1}
    batch_size = recipe["optimizer"]["batch_size"]
    learn = in_child(task="training", batch_size=batch_size, steps=3, compiled=False, **shared)
    use = in_child(task="step", steps=10, compiled=compiled, **shared)
    return {
        "train_mib": learn["memory_mib"], "train_base_mib": learn["base_mib"],
        "step_mib": use["memory_mib"], "step_base_mib": use["base_mib"],
    }  # fmt: skip


def drift(atoms: Atoms, folder: Path, comparison: Comparison) -> dict[str, Any]:
    """Drift of the total energy at constant energy, at 300 K (from the minimum with velocities of 600 K), 0.5 fs.

    A potential that breaks the molecule, or gives no finite number, has no drift: `drift_note` says what became of it.
    """
    empty = {"drift": None, "drift_error": None, "temperature_K": None, "drift_note": "not run"}
    if comparison.drift_ps <= 0.0:
        return empty
    calculator = make_calculator(str(folder / "potential"), compiled=comparison.compiled)
    try:
        run, _ = nve(
            _relaxed(folder, atoms),
            calculator,
            None,
            name=folder.name,
            temperature_K=TEMPERATURE_K,
            timestep_fs=TIMESTEP_FS,
            time_ps=comparison.drift_ps,
        )
    except (MLFFError, ArithmeticError) as error:
        logger.warning("%s: %s", folder.name, error)
        return empty | {"drift_note": f"ended by {type(error).__name__}"}
    if not math.isfinite(run.drift) or run.mean_temperature_K > 10.0 * TEMPERATURE_K:
        return empty | {"temperature_K": run.mean_temperature_K, "drift_note": "the molecule flew apart"}
    return {
        "drift": run.drift,
        "drift_error": run.drift_error,
        "temperature_K": run.mean_temperature_K,
        "drift_note": "",
    }


def _relaxed(folder: Path, atoms: Atoms) -> Atoms:
    """The structure at the potential's own minimum, where velocities of twice the temperature give the temperature."""
    moved = atoms.copy()
    moved.calc = make_calculator(str(folder / "potential"), precision="float64")
    BFGS(moved, logfile=None).run(fmax=0.01, steps=300)
    moved.calc = None
    return moved


COLUMNS = {
    "molecule": "molecule", "backbone": "backbone", "weights": "parameters", "optimizer steps": "steps",
    "force MAE, meV/Å": "force_mae", "energy MAE, meV": "energy_mae", "ms per step": "step_ms", "to the first": "ratio",
    "training peak, MiB": "train_mib", "step peak, MiB": "step_mib", "drift, meV/atom/ps": "drift",
    "whole training, CPU min": "cpu_minutes",
}  # fmt: skip
"""Headings and fields of the table."""


def cells(row: dict[str, Any]) -> dict[str, Any]:
    """A row as texts for a table."""
    formats = {"force_mae": ".1f", "energy_mae": ".1f", "step_ms": ".2f", "ratio": ".2f", "train_mib": ".0f",
               "step_mib": ".0f", "drift": ".1e", "cpu_minutes": ".1f"}  # fmt: skip
    shown = {name: format(row[name], how) for name, how in formats.items() if row[name] is not None}
    return {**row, "drift": row["drift_note"], **shown}


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as markdown."""
    lines = [list(COLUMNS), ["---"] * len(COLUMNS)]
    lines += [[str(cells(row)[name]) for name in COLUMNS.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_results(result: dict[str, Any], folder: Path) -> None:
    """Write `force_fields.json` and `force_fields.md`, each whole or not at all."""
    texts = {"json": json.dumps(result, indent=2) + "\n", "md": as_markdown(result["rows"])}
    for ending, text in texts.items():
        write_atomic(folder / f"force_fields.{ending}", text)
