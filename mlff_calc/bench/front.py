"""Accuracy against time: shapes of our own network, trained for the same minutes and timed on the same frames."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlff_calc.bench.step import time_system
from mlff_calc.bench.train import find_rmd17, train_ethanol
from mlff_calc.errors import OptionError
from mlff_calc.potential import load_potential

logger = logging.getLogger(__name__)

DEFAULT_RADIUS = "0.5"
DEFAULT_SHAPES = "1x32x3,2x32x2,2x32x3,2x48x2,3x32x2"


@dataclass(frozen=True)
class Shape:
    """A size of a backbone, written as l_max x channels x layers.

    `deq:2x32x1` is one of the deep-equilibrium backbone with so many blocks, `deq0.8:2x32x1` one whose spectral radius is
    held at 0.8, `deq0:2x32x1` one whose is not held.
    """

    l_max: int
    channels: int
    n_layers: int
    radius: float | None = None

    def __str__(self) -> str:
        """As on the command line."""
        size = f"{self.l_max}x{self.channels}x{self.n_layers}"
        return size if self.radius is None else f"deq{self.radius:g}:{size}"

    @property
    def recipe(self) -> str:
        """Name of the shipped potential whose recipe it is trained by."""
        return "ethanol" if self.radius is None else "ethanol_deq"

    @property
    def settings(self) -> dict[str, object]:
        """Values of a recipe."""
        sizes: dict[str, object] = {f"potential.backbone.{name}": getattr(self, name) for name in ("l_max", "channels")}
        if self.radius is None:
            return {**sizes, "potential.backbone.n_layers": self.n_layers}
        held = {"loss.spectral_radius": self.radius} if self.radius > 0.0 else {"loss.contraction": 0.0}
        return {**sizes, "potential.backbone.n_blocks": self.n_layers, **held}


def parse_shapes(text: str) -> list[Shape]:
    """Shapes out of a list such as 2x32x3,3x32x2.

    Raises:
        OptionError: a word is no shape.
    """
    shapes = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(?:(deq)(\d*\.?\d*):)?(\d+)x(\d+)x(\d+)", word)
        if match is None:
            msg = f"{word!r} is no shape; write l_max x channels x layers, as in 2x32x3 or deq:2x32x1"
            raise OptionError(msg)
        radius = None if match[1] is None else float(match[2] or DEFAULT_RADIUS)
        l_max, channels, n_layers = map(int, match.groups()[2:])
        shapes.append(Shape(l_max, channels, n_layers, radius=radius))
    if not shapes:
        msg = "no shapes to train; write l_max x channels x layers, as in 2x32x3,3x32x2"
        raise OptionError(msg)
    return shapes


def measure_front(
    shapes: Sequence[Shape],
    minutes: float,
    *,
    data: Path | None,
    workdir: Path,
    threads: int = 1,
    compiled: bool = True,
    seeds: Sequence[int] = (1,),
) -> list[dict[str, Any]]:
    """Train every shape on rMD17 ethanol, then time a step of each.

    A shape whose training has ended before, for the same minutes in the same `workdir`, is taken from there.

    Args:
        shapes: what to train.
        minutes: budget of each, compilation not counted.
        data: folder of data sets.
        workdir: keeps the runs.
        threads: of PyTorch.
        compiled: time the compiled potential.
        seeds: of weights and order; each shape is trained with each of them, and the first one is timed.

    Returns:
        One dict per shape: `shape`, `parameters`, `force_mae` (meV/Angstrom) and `energy_mae` (meV) on the test frames, both
        means over seeds, `force_maes` of each seed, `spectral_radius` (mean over seeds, fixed points only), `total_ms` and
        `min_ms` of a step.

    Raises:
        BenchmarkError: no data, or a training failed.
    """
    source = find_rmd17("ethanol", data)
    rows = []
    for shape in shapes:
        tag = str(shape).replace(":", "-")
        names = [f"{tag}-{minutes:g}min-{threads}t" + (f"-seed{seed}" if seed != 1 else "") for seed in seeds]
        folders = [workdir / name for name in names]
        for seed, folder in zip(seeds, folders, strict=True):
            if not (folder / "evaluation.json").is_file():
                logger.info("training %s, seed %d, for %g minutes", shape, seed, minutes)
                settings = {**shape.settings, "trainer.seed": seed}
                train_ethanol(minutes, source, folder, threads=threads, settings=settings, recipe=shape.recipe)
        rows.append(_row_of(shape, folders))
    for shape, row in zip(shapes, rows, strict=True):
        folder = row.pop("folder")
        timing = time_system("ethanol", potential=str(folder / "potential"), threads=threads, compiled=compiled)
        row.update(total_ms=timing.total_ms, min_ms=timing.min_ms)
        logger.info("timed %s", shape)
    return rows


def _row_of(shape: Shape, folders: Sequence[Path]) -> dict[str, Any]:
    """Errors of the runs of one shape."""
    errors = [json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["errors"] for folder in folders]
    forces = [one["forces"]["mae"] for one in errors]
    row = {
        "shape": str(shape),
        "parameters": sum(p.numel() for p in load_potential(folders[0] / "potential").parameters()),
        "force_mae": sum(forces) / len(forces),
        "force_maes": ", ".join(f"{mae:.2f}" for mae in forces),
        "energy_mae": sum(one["energy"]["mae"] for one in errors) / len(errors),
        "folder": folders[0],
    }
    if shape.radius is not None:
        radii = [_last_radius(folder / "metrics.csv") for folder in folders]
        row["spectral_radius"] = sum(radii) / len(radii)
    return row


def _last_radius(path: Path) -> float:
    """Spectral radius at the last validation of a run."""
    with path.open(newline="", encoding="utf-8") as stream:
        values = [row["valid_spectral_radius"] for row in csv.DictReader(stream)]
    return float([value for value in values if value][-1])


def draw_front(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a picture of force error against time, with the line of shapes that no other beats in both."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        axes.annotate(row["shape"], (row["total_ms"], row["force_mae"]), xytext=(5, 5), textcoords="offset points")
    axes.plot([row["total_ms"] for row in rows], [row["force_mae"] for row in rows], "o")
    best = [row for row in rows if not any(_beats(other, row) for other in rows)]
    best.sort(key=lambda row: row["total_ms"])
    axes.plot([row["total_ms"] for row in best], [row["force_mae"] for row in best], "-", color="C0", alpha=0.5)
    axes.set(xlabel="time of a step (ms)", ylabel="force MAE on test frames (meV/Å)")
    axes.set_title("Ethanol, l_max x channels x layers")
    axes.margins(0.15)
    figure.savefig(path, dpi=150)


def _beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["total_ms"] < other["total_ms"] and one["force_mae"] < other["force_mae"]
