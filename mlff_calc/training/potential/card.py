"""The card of a trained potential: its data, errors and limits."""

from __future__ import annotations

from pathlib import Path

from ase.data import chemical_symbols

from mlff_calc.datasets import KINDS
from mlff_calc.datasets.several import short_names
from mlff_calc.training.card import card_text, table
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.task import Outcome


def write_card(outcome: Outcome[PotentialRecipe, Frames]) -> str:
    """Write the card as Markdown."""
    recipe, potential, parts = outcome.recipe, outcome.network, outcome.parts
    elements = " ".join(chemical_symbols[z] for z in potential.elements)
    data = [f"Level of theory: {recipe.card.level_of_theory or 'not stated in the recipe'}.", ""]
    data += [recipe.card.data, ""] if recipe.card.data else []
    short = short_names(path for frames in parts.values() for path in frames.paths)
    rows: list[tuple[object, ...]] = [("part", "file", "frames", "energies", "forces", "stresses")]
    for count in (count for frames in parts.values() for count in frames.count_by_file()):
        name, numbers = without_folder(short[Path(count.path)]), (count.labels[kind] for kind in KINDS)
        rows.append((count.part, name, count.frames, *numbers))
    more = "" if potential.fields is None else f" and {potential.fields.products} products of its fields"
    return card_text(
        outcome,
        "frames",
        what=f"a potential for {elements}",
        data=[*data, *table(rows)],
        start=f"Fine-tuned from {without_folder(recipe.fine_tune_from)}." if recipe.fine_tune_from else "",
        limits=f"Elements other than {elements}, and structures unlike the training data.",
        more_limits="The potential knows nothing of charge and spin, and no interaction beyond its cutoff of "
        f"{potential.cutoff:g} Angstrom and {potential.backbone.n_layers} message-passing layers{more}.",
    )
