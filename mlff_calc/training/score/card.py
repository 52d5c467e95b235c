"""The card of a trained score model: its data, errors and limits."""

from __future__ import annotations

from ase import Atoms

from mlff_calc.training.card import card_text, table
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.score.recipe import ScoreRecipe
from mlff_calc.training.task import Outcome

LIMITS = (
    "Other molecules. Weights of basins are close to those of the training frames, whatever the target, and equal to them "
    "where barriers are above 2 to 3 kT; reweight with a potential (`mlff sample --calculator`) where they matter. Mirror "
    "images are drawn with equal probability."
)


def write_card(outcome: Outcome[ScoreRecipe, Frames]) -> str:
    """Write the card as Markdown."""
    model, recipe = outcome.network, outcome.recipe
    rows: list[tuple[object, ...]] = [("part", "frames", "files")]
    rows += [(part, len(frames), without_folder(frames.where)) for part, frames in outcome.parts.items()]
    formula = Atoms(numbers=list(model.topology.numbers)).get_chemical_formula()
    about = [recipe.card.data, ""] if recipe.card.data else []
    return card_text(
        outcome,
        "frames",
        what="a score model",
        about=f"It draws structures of {formula} as at kT = {model.kT:.6g} (target {model.target.name}, noise from "
        f"{model.schedule.sigma_min:.3g} to {model.schedule.sigma_max:.3g} Angstrom).",
        data=[*about, *table(rows)],
        below="An unexplained share of 1 is that of a score of zero; noise alone keeps it above 0.",
        limits=LIMITS,
    )
