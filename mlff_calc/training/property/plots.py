"""Predictions with error bars, and the calibration of their distributions, as a PNG file."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from mlff_calc.training.plots import save
from mlff_calc.training.property.evaluate import PropertyReport

MOST = 2000  # largest number of drawn structures; a larger one makes larger files


def draw(report: PropertyReport, target: Path, title: str = "") -> None:
    """Draw predictions against labels, and shares of covered labels against nominal ones.

    Args:
        report: Errors, with single labels.
        target: PNG file to write.
        title: Title of the figure.
    """
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    labels, means, stds = (one[:: max(1, len(report.pairs[0]) // MOST)] for one in report.pairs)
    ends = [min(labels.min(), means.min()), max(labels.max(), means.max())]
    left.plot(ends, ends, color="0.6", linewidth=1.0)
    left.errorbar(labels, means, yerr=stds, fmt=".", markersize=3, linewidth=0.5, alpha=0.5)
    unit = f" ({report.unit})" if report.unit else ""
    left.set_xlabel(f"reference{unit}")
    left.set_ylabel(f"predicted{unit}, with standard deviation")
    left.set_title(f"{report.name}: MAE {report.mae:.4g}", fontsize=10)
    right.plot([0, 1], [0, 1], color="0.6", linewidth=1.0)
    right.plot(list(report.covered), list(report.covered.values()), marker=".", label="distributions")
    right.plot(list(report.coverage), list(report.coverage.values()), "s", markersize=5, label="calibrated intervals")
    right.set_xlabel("nominal share")
    right.set_ylabel("share of labels inside")
    right.legend(frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    save(figure, target)
