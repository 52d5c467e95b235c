"""Error against time: networks are trained for equal processor time, then evaluated and timed side by side.

Every network gets the same frames, loss, batch size and schedule, those of a shipped potential, on one thread. Compilation
does not count. Afterwards one process measures all networks of a data set:

- errors on the test frames, as `mlff train` reports them, for every budget and seed;
- time of a compiled step in float32: the potentials take turns on the same moving frames, a few steps each. CPU time of one
  thread is measured, which other programs on the machine hardly change; wall time is recorded as well;
- optionally, peak memory of training steps and of MD steps, and the drift of the total energy at constant energy.

A training that has finished with the same recipe is not repeated, and an interrupted training is resumed, so that a front
that takes many hours can be made in parts.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlff_calc.bench.entrants import DATA_SETS, Entrant, missing_data
from mlff_calc.bench.front_costs import drift, memory, time_in_turns
from mlff_calc.bench.systems import build_system
from mlff_calc.bench.threads import limited_threads
from mlff_calc.bench.train import run_training
from mlff_calc.errors import BenchmarkError, OptionError
from mlff_calc.potential import load_potential
from mlff_calc.whole_files import write_whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Front:
    """A comparison of networks.

    Attributes:
        data_sets: Keys of `DATA_SETS`.
        entrants: Networks; times are relative to the first one.
        minutes: Budgets of training, in processor minutes.
        output: Folder of runs and results.
        data: Folder of data sets.
        seeds: Seeds of weights and of the order of frames; each network is trained with each of them.
        rounds: Number of turns of each potential in the timing.
        with_memory: Whether peak memories are measured.
        drift_ps: Length of the run at constant energy, ps; 0 skips it.
        compiled: Whether training and steps use compiled code.
    """

    data_sets: Sequence[str]
    entrants: Sequence[Entrant]
    minutes: Sequence[float]
    output: Path
    data: Path | None = None
    seeds: Sequence[int] = (1,)
    rounds: int = 40
    with_memory: bool = False
    drift_ps: float = 0.0
    compiled: bool = True

    def folder(self, data_set: str, entrant: Entrant, minutes: float, seed: int) -> Path:
        """Return the folder of a run."""
        return self.output / f"{data_set}-{entrant.tag}-{minutes:g}min-seed{seed}"

    def recipe(self, data_set: str, entrant: Entrant, minutes: float, seed: int) -> dict[str, Any]:
        """Return the recipe of a run.

        Raises:
            BenchmarkError: The shipped recipe on which it is based is not installed.
        """
        recipe = entrant.recipe(data_set)
        for budget in ("max_epochs", "max_minutes"):
            recipe["optimizer"].pop(budget, None)
        recipe["optimizer"]["max_cpu_minutes"] = minutes
        recipe["trainer"] |= {"device": "cpu", "compile": self.compiled, "seed": seed}
        recipe["card"]["title"] = f"{data_set}, {entrant}, for comparison"
        recipe["output"] = self.folder(data_set, entrant, minutes, seed).name
        return recipe


def measure_front(front: Front) -> list[dict[str, Any]]:
    """Train the networks that are not trained yet, then evaluate and time all of them.

    Returns:
        One dict per data set, network and budget. Entries about the training: `data_set`, `network`, `minutes`,
        `parameters`, `steps` of the optimizer, and errors on the test frames as means over seeds: `energy_mae` (meV per
        atom), `force_mae`, `force_rmse` (meV/Angstrom), `stress_mae` (meV/Angstrom^3, None without stresses), `force_maes`
        of each seed and, for a fixed point, `spectral_radius`. Entries about a step: `step_ms` and `wall_ms` (medians of
        CPU and wall time), `us_per_atom`, `ratio` (to the first network, median over rounds). Optional entries:
        `train_mib`, `step_mib`, `drift`.

    Raises:
        BenchmarkError: Data are missing, or a training failed.
    """
    missing = missing_data(list(front.data_sets), front.data or Path())
    if missing:
        raise BenchmarkError(
            f"training needs {missing[0]}, which is missing; name the folder of data sets with --data or MLFF_DATA"
        )
    for data_set in front.data_sets:
        for minutes in sorted(front.minutes):
            for seed in front.seeds:
                for entrant in front.entrants:
                    train(front, data_set, entrant, minutes, seed)
    rows = []
    with limited_threads(1):
        for data_set in front.data_sets:
            rows += _judge(front, data_set)
    return rows


def train(front: Front, data_set: str, entrant: Entrant, minutes: float, seed: int) -> None:
    """Train a network in a separate process with one thread, unless the same training has finished before.

    Raises:
        BenchmarkError: The training failed. The text names the log.
    """
    folder = front.folder(data_set, entrant, minutes, seed)
    file = folder.with_name(f"{folder.name}.yaml")
    text = yaml.safe_dump(front.recipe(data_set, entrant, minutes, seed), sort_keys=False)
    begun = file.is_file() and file.read_text(encoding="utf-8") == text and (folder / "run.json").is_file()
    if begun and json.loads((folder / "run.json").read_text(encoding="utf-8")).get("finished"):
        logger.info("%s has been trained before", folder.name)
        return
    logger.info("training %s", folder.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    run_training(file, folder, data=front.data, threads=1, words=["--resume" if begun else "--overwrite"])


def _judge(front: Front, data_set: str) -> list[dict[str, Any]]:
    """Return the rows of one data set. One run per network is timed, since the weights do not change the time of a step."""
    system = DATA_SETS[data_set].timed
    atoms = build_system(system)
    last = {str(one): front.folder(data_set, one, max(front.minutes), front.seeds[0]) for one in front.entrants}
    costs: dict[str, dict[str, Any]] = {name: dict(found) for name, found in
                                        time_in_turns(atoms, last, front.rounds, front.compiled).items()}  # fmt: skip
    for name, folder in last.items():
        if front.with_memory:
            costs[name] |= memory(system, folder, compiled=front.compiled)
        if front.drift_ps > 0.0:
            costs[name] |= drift(atoms, folder, time_ps=front.drift_ps, compiled=front.compiled)
    rows = []
    for minutes in sorted(front.minutes):
        for entrant in front.entrants:
            outcomes = [outcome(front.folder(data_set, entrant, minutes, seed)) for seed in front.seeds]
            found: dict[str, Any] = {"data_set": data_set, "network": str(entrant), "minutes": minutes} | _mean(outcomes)
            found |= costs[str(entrant)]
            rows.append(found | {"us_per_atom": 1e3 * found["step_ms"] / len(atoms)})
    return rows


def outcome(folder: Path) -> dict[str, Any]:
    """Return size and errors of a finished run."""
    errors = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["errors"]
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    radii = [row["valid_spectral_radius"] for row in rows if row.get("valid_spectral_radius")]
    return {
        "parameters": sum(p.numel() for p in load_potential(folder / "potential").parameters()),
        "steps": max(int(row["step"]) for row in rows),
        "energy_mae": errors["energy_per_atom"]["mae"],
        "force_mae": errors["forces"]["mae"],
        "force_rmse": errors["forces"]["rmse"],
        "stress_mae": errors["stress"]["mae"] if "stress" in errors else None,
        "spectral_radius": float(radii[-1]) if radii else None,
    }


def _mean(outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return means over seeds, and the force error of each seed."""
    first = outcomes[0]
    found = {
        name: value if value is None else sum(one[name] for one in outcomes) / len(outcomes)
        for name, value in first.items()
    }
    return found | {"parameters": first["parameters"], "force_maes": [one["force_mae"] for one in outcomes]}


COLUMNS = {
    "data": "data_set", "network": "network", "min": "minutes", "weights": "parameters", "steps": "steps",
    "energy MAE, meV/atom": "energy_mae", "force MAE, meV/Å": "force_mae", "force RMSE": "force_rmse",
    "stress MAE, meV/Å³": "stress_mae", "µs/atom": "us_per_atom", "to the first": "ratio",
    "spectral radius": "spectral_radius", "training peak, MiB": "train_mib", "step peak, MiB": "step_mib",
    "drift, meV/atom/ps": "drift",
}  # fmt: skip
"""Headings and fields of the table; columns without values are left out."""
_FORMATS = {"minutes": "g", "steps": ".0f", "energy_mae": ".2f", "force_mae": ".1f", "force_rmse": ".1f",
            "stress_mae": ".2f", "us_per_atom": ".1f", "ratio": ".2f", "spectral_radius": ".2f", "train_mib": ".0f",
            "step_mib": ".0f", "drift": ".1e"}  # fmt: skip


def columns_of(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the headings and fields for which some row has a value."""
    filled = {name for row in rows for name, value in cells(row).items() if value != ""}
    return {heading: name for heading, name in COLUMNS.items() if name in filled}


def cells(row: dict[str, Any]) -> dict[str, str]:
    """Return a row as texts for a table; missing values are empty."""
    shown = {}
    for name in COLUMNS.values():
        value = row.get(name)
        shown[name] = "" if value is None else format(value, _FORMATS.get(name, ""))
    return shown | ({"drift": row["drift_note"]} if row.get("drift_note") else {})


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table as markdown."""
    columns = columns_of(rows)
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cells(row)[name] for name in columns.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw_front(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw force error against time, with a panel per data set, and for each budget a line through the Pareto front."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["data_set"] for row in rows))
    figure = Figure(figsize=(5.0 * len(names), 4.0), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        own = [row for row in rows if row["data_set"] == name]
        for colour, minutes in enumerate(dict.fromkeys(row["minutes"] for row in own)):
            points = sorted((row["us_per_atom"], row["force_mae"]) for row in own if row["minutes"] == minutes)
            best = [one for one in points if not any(other[0] < one[0] and other[1] < one[1] for other in points)]
            axes.plot(*zip(*points, strict=True), "o", color=f"C{colour}", label=f"{minutes:g} min")
            axes.plot(*zip(*best, strict=True), "-", color=f"C{colour}", alpha=0.5)
        longest = max(row["minutes"] for row in own)
        for row in own:
            if row["minutes"] == longest:
                place = (row["us_per_atom"], row["force_mae"])
                axes.annotate(row["network"], place, xytext=(5, 5), textcoords="offset points", fontsize=7)
        axes.set(xlabel="time of a step (µs/atom)", ylabel="force MAE on test frames (meV/Å)", title=name)
        axes.margins(0.2)
        axes.legend()
    figure.savefig(path, dpi=150)


def write_results(result: dict[str, Any], folder: Path) -> None:
    """Write `front.json`, `front.md` and `front.png`, each of them atomically."""
    texts = {"json": json.dumps(result, indent=2) + "\n", "md": as_markdown(result["rows"])}
    for ending, text in texts.items():
        write_whole(folder / f"front.{ending}", text)
    draw_front(result["rows"], folder / "front.png")


def parse_data_sets(text: str) -> list[str]:
    """Return the data sets of a comma-separated list, without duplicates.

    Raises:
        OptionError: The list is empty, or a name is unknown.
    """
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    wrong = [name for name in names if name not in DATA_SETS]
    if wrong or not names:
        said = f"unknown data set {wrong[0]!r}" if wrong else f"{text!r} names no data set"
        raise OptionError(f"{said}; known: {', '.join(DATA_SETS)}")
    return names
