"""Learning curves and parity plots as PNG files, without changing matplotlib's global state."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mlff_calc.training.metrics import read_metrics
from mlff_calc.whole_files import write_whole

_LABELS = {
    "energy_per_atom": ("Energy per atom", "eV/atom"),
    "forces": ("Force component", "eV/Å"),
    "stress": ("Stress component", "eV/Å³"),
}
_MAX_POINTS = 20_000  # largest number of points in a parity plot; a larger one makes larger files


def learning_curve(metrics: Path, target: Path) -> None:
    """Draw losses and validation errors over epochs: mean absolute errors, or mean squares if the run has only those.

    Args:
        metrics: The `metrics.csv` of a run.
        target: PNG file to write.

    Raises:
        TrainingError: See `read_metrics`.
    """
    rows = read_metrics(metrics)
    if not rows:
        return
    columns = {key: np.array([float(row[key]) if row[key] else np.nan for row in rows]) for key in rows[0]}
    kind = "_mae" if any(key.endswith("_mae") for key in columns) else "_mse"
    errors = [key for key in columns if key.endswith(kind)]
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for key in ("train_loss", "valid_loss"):
        _line(left, columns["epoch"], columns[key], key.replace("_", " "))
    left.set_ylabel("loss")
    for key in errors:
        _line(right, columns["epoch"], columns[key], key.removeprefix("valid_").removesuffix(kind).replace("_", " "))
    right.set_ylabel(
        "validation MAE (meV, meV/atom, meV/Å)" if kind == "_mae" else "validation MSE (units of the data)"
    )
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    save(figure, target)


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
    shown = np.isfinite(y) & (y > 0)
    if shown.any():
        axes.semilogy(x[shown], y[shown], marker="." if shown.sum() < 30 else "", label=label)


def parity(pairs: dict[str, tuple[np.ndarray, np.ndarray]], target: Path, title: str = "") -> None:
    """Draw predicted against reference values.

    Args:
        pairs: Flat arrays (reference, predicted) by property: `energy_per_atom` (eV/atom), `forces` (eV/Angstrom) and
            `stress` (eV/Angstrom^3).
        target: PNG file to write.
        title: Title of the figure.
    """
    names = [name for name in _LABELS if name in pairs and pairs[name][0].size]
    figure = Figure(figsize=(4.2 * max(1, len(names)), 4.2), layout="constrained")
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        reference, predicted = pairs[name]
        step = max(1, reference.size // _MAX_POINTS)
        x, y = reference[::step], predicted[::step]
        low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
        axes.plot([low, high], [low, high], color="0.6", linewidth=1.0)
        axes.plot(x, y, ".", markersize=3, alpha=0.5)
        what, unit = _LABELS[name]
        mae = 1000.0 * float(np.abs(predicted - reference).mean())
        axes.set_title(f"{what}: MAE {mae:.3g} m{unit}", fontsize=10)
        axes.set_xlabel(f"reference ({unit})")
        axes.set_ylabel(f"predicted ({unit})")
        axes.ticklabel_format(useOffset=False)
    if title:
        figure.suptitle(title, fontsize=11)
    save(figure, target)


def save(figure: Figure, target: Path) -> None:
    """Write a figure as a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_whole(target, buffer.getvalue())
