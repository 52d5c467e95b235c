"""Accuracy against time: shapes of our own network, trained for the same minutes and timed on the same frames."""

from __future__ import annotations

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

DEFAULT_SHAPES = "1x32x3,2x32x2,2x32x3,2x48x2,3x32x2"


@dataclass(frozen=True)
class Shape:
    """A size of the `equiformer` backbone, written as l_max x channels x layers."""

    l_max: int
    channels: int
    n_layers: int

    def __str__(self) -> str:
        """As on the command line."""
        return f"{self.l_max}x{self.channels}x{self.n_layers}"

    @property
    def settings(self) -> dict[str, object]:
        """Values of a recipe."""
        return {f"potential.backbone.{name}": value for name, value in vars(self).items()}


def parse_shapes(text: str) -> list[Shape]:
    """Shapes out of a list such as 2x32x3,3x32x2.

    Raises:
        OptionError: a word is no shape.
    """
    shapes = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", word)
        if match is None:
            msg = f"{word!r} is no shape; write l_max x channels x layers, as in 2x32x3"
            raise OptionError(msg)
        shapes.append(Shape(*map(int, match.groups())))
    if not shapes:
        msg = "no shapes to train; write l_max x channels x layers, as in 2x32x3,3x32x2"
        raise OptionError(msg)
    return shapes


def measure_front(
    shapes: Sequence[Shape], minutes: float, *, data: Path | None, workdir: Path, threads: int = 1, compiled: bool = True
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

    Returns:
        One dict per shape: `shape`, `parameters`, `force_mae` (meV/Angstrom) and `energy_mae` (meV) on the test frames,
        `total_ms` and `min_ms` of a step.

    Raises:
        BenchmarkError: no data, or a training failed.
    """
    source = find_rmd17("ethanol", data)
    folders = [workdir / f"{shape}-{minutes:g}min-{threads}t" for shape in shapes]
    for shape, folder in zip(shapes, folders, strict=True):
        if not (folder / "evaluation.json").is_file():
            logger.info("training %s for %g minutes", shape, minutes)
            train_ethanol(minutes, source, folder, threads=threads, settings=shape.settings)
    rows = []
    for shape, folder in zip(shapes, folders, strict=True):
        errors = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["errors"]
        timing = time_system("ethanol", potential=str(folder / "potential"), threads=threads, compiled=compiled)
        rows.append({
            "shape": str(shape),
            "parameters": sum(p.numel() for p in load_potential(folder / "potential").parameters()),
            "force_mae": errors["forces"]["mae"],
            "energy_mae": errors["energy"]["mae"],
            "total_ms": timing.total_ms,
            "min_ms": timing.min_ms,
        })  # fmt: skip
    return rows


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
