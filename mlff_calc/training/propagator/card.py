"""The card of a trained propagator: what it predicts, how well, and what it is not for."""

from __future__ import annotations

from collections.abc import Sequence

from mlff_calc.datasets.motion import MotionSample
from mlff_calc.training.machine import machine
from mlff_calc.training.propagator.recipe import MotionRecipe
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.task import Outcome


def write_card(outcome: Outcome[MotionRecipe, Sequence[MotionSample]]) -> str:
    """The card as Markdown."""
    recipe, propagator, parts, report = outcome.recipe, outcome.network, outcome.parts, outcome.report
    fitted, judged = outcome.fitted, outcome.judged
    card = recipe.card
    backbone = ", ".join(f"{key} {value}" for key, value in propagator.config["backbone"].items())
    what = "positions and velocities" if propagator.config["predict_velocities"] else "positions"
    lines = [f"# {card.title or recipe.origin.stem}: a propagator", "", f"It predicts {what} a time after a frame.", ""]
    lines += ["## Data", "", card.data or f"The file {without_folder(recipe.data.file)}.", ""]
    lines += ["| part | samples | particles | time ahead |", "|---|---|---|---|"]
    for part, samples in parts.items():
        sizes = sorted({len(sample.kinds) for sample in samples})
        times = sorted({sample.horizon for sample in samples})
        lines.append(f"| {part} | {len(samples)} | {_span(sizes)} | {_span(times)} |")
    lines += ["", "## Model", "", f"{backbone}; {report.parameters} weights; precision in training"]
    lines[-1] += f" {recipe.trainer.precision}."
    lines += ["", "## Training", "", f"    {outcome.command or 'train(recipe)'}", ""]
    lines.append(f"{fitted.time_text()}, {fitted.epochs} epochs (best: {fitted.best_epoch}), on {machine()}.")
    lines += ["", f"## Errors on {report.samples} {judged} samples", ""]
    lines += ["| | quantity | MSE | RMSE |", "|---|---|---|---|"]
    for row, found in report.errors.items():
        for name, error in found.items():
            lines.append(f"| {row.replace('_', ' ')} | {name} | {error.mse:.6g} | {error.rmse:.5g} |")
    lines += ["", "In the units of the data. The rows below the propagator need no network.", "", "## Not for", ""]
    lines.append(card.not_for or "Another time ahead, other kinds of particles, and systems unlike the training data.")
    lines += ["", f"Licence: {card.licence}"] if card.licence else []
    return "\n".join(lines) + "\n"


def _span(values: list[int] | list[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
