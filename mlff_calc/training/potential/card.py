"""The card of a trained potential: what it is made of, how good it is, what it is not for."""

from __future__ import annotations

from pathlib import Path

from ase.data import chemical_symbols

from mlff_calc.datasets.several import short_names
from mlff_calc.training.machine import machine
from mlff_calc.training.potential.frames import Frames
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.task import Outcome


def write_card(outcome: Outcome[PotentialRecipe, Frames]) -> str:
    """The card as Markdown."""
    recipe, potential, parts, report = outcome.recipe, outcome.network, outcome.parts, outcome.report
    fitted, notes = outcome.fitted, outcome.notes
    card = recipe.card
    elements = " ".join(chemical_symbols[z] for z in potential.elements)
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
    lines += ["", "## Training", "", f"    {outcome.command or 'train(recipe)'}", ""]
    lines.append(f"{fitted.time_text()}, {fitted.epochs} epochs (best: {fitted.best_epoch}), on {machine()}.")
    where = "test frames" if outcome.judged == "test" else "validation frames (there were no test frames)"
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
