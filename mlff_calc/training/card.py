"""The card of a trained potential: what it is made of, how good it is, what it is not for."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from ase.data import chemical_symbols

from mlff_calc.datasets.several import short_names
from mlff_calc.potential import Potential
from mlff_calc.training.evaluate import EvaluationReport
from mlff_calc.training.fit import FitResult
from mlff_calc.training.frames import Frames
from mlff_calc.training.recipe import Recipe
from mlff_calc.training.recipe_copies import without_folder


def machine() -> str:
    """Processor, threads and GPU in words."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    text = f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"
    return text + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "")


def write_card(
    recipe: Recipe,
    potential: Potential,
    parts: dict[str, Frames],
    fitted: FitResult,
    report: EvaluationReport,
    command: str,
    notes: Sequence[str] = (),
) -> str:
    """The card as Markdown.

    Args:
        recipe: Supplies what the author says about data and method.
        potential: The result.
        parts: The frames, by part.
        fitted: Epochs and time.
        report: Errors on `test`, or on `valid` where there is no test part.
        command: The command line of the run.
        notes: What was decided about the data, a sentence each.
    """
    card = recipe.card
    elements = " ".join(chemical_symbols[z] for z in potential.elements)
    judged = "test" if "test" in parts else "valid"
    n_weights = sum(p.numel() for p in potential.parameters())
    backbone = ", ".join(f"{key} {value}" for key, value in potential.config["backbone"].items())
    lines = [f"# {card.title or recipe.origin.stem}: a potential for {elements}", ""]
    lines += ["## Data", "", f"Level of theory: {card.level_of_theory or 'not stated in the recipe'}.", ""]
    lines += [card.data, ""] if card.data else []
    lines += ["| part | file | frames | energies | forces | stresses |", "|---|---|---|---|---|---|"]
    short = short_names(path for frames in parts.values() for path in frames.paths)
    for count in (count for frames in parts.values() for count in frames.count_by_file()):
        n, name = count.labels, without_folder(short[Path(count.path)])
        lines.append(f"| {count.part} | {name} | {count.frames} | {n['energy']} | {n['forces']} | {n['stress']} |")
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    lines += ["", "## Model", "", f"{backbone}; {n_weights} weights; precision in training {recipe.trainer.precision}."]
    if recipe.fine_tune_from:
        lines.append(f"Fine-tuned from {without_folder(recipe.fine_tune_from)}.")
    lines += ["", "## Training", "", f"    {command or 'train(recipe)'}", ""]
    lines.append(
        f"{fitted.seconds / 60.0:.1f} minutes, {fitted.epochs} epochs (best: {fitted.best_epoch}), on {machine()}."
    )
    where = "test frames" if judged == "test" else "validation frames (there were no test frames)"
    lines += ["", f"## Errors on {report.frames} {where}", "", "| | MAE | RMSE | unit |", "|---|---|---|---|"]
    for name, errors in report.errors.items():
        lines.append(f"| {name.replace('_', ' ')} | {errors.mae:.3f} | {errors.rmse:.3f} | {errors.unit} |")
    if len(report.by_config_type) > 1:
        for kind, found in report.by_config_type.items():
            for name, errors in found.items():
                words = f"{kind}: {name.replace('_', ' ')}"
                lines.append(f"| {words} | {errors.mae:.3f} | {errors.rmse:.3f} | {errors.unit} |")
    lines += ["", "## Not for", ""]
    lines.append(card.not_for or f"Elements other than {elements}, and structures unlike the training data.")
    lines.append("The potential knows nothing of charge and spin, and no interaction beyond its cutoff"
                 f" of {potential.cutoff:g} Angstrom and {potential.backbone.n_layers} message-passing layers.")  # fmt: skip
    lines += ["", f"Licence: {card.licence}"] if card.licence else []
    return "\n".join(lines) + "\n"
