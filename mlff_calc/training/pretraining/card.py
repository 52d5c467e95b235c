"""The card of a pretrained network: its data, errors and limits."""

from __future__ import annotations

from mlff_calc.training.card import card_text, table
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.pretraining.recipe import PretrainingRecipe
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.task import Outcome

LIMITS = (
    "Predictions: it is a backbone to start from. Structures of another kind, with other elements, or with other shapes "
    "than those it was pretrained on (minima of another method, strained or hot ones) profit less or not at all."
)


def write_card(outcome: Outcome[PretrainingRecipe, Frames]) -> str:
    """Write the card as Markdown."""
    network, recipe = outcome.network, outcome.recipe
    rows: list[tuple[object, ...]] = [("part", "structures", "files")]
    rows += [(part, len(frames), without_folder(frames.where)) for part, frames in outcome.parts.items()]
    about = [recipe.card.data, ""] if recipe.card.data else []
    objective = ", ".join(f"{key} {value}" for key, value in network.config["objective"].items())
    return card_text(
        outcome,
        "structures",
        what="a pretrained backbone",
        about=f"It was pretrained by the objective {objective}.",
        data=[*about, *table(rows)],
        below="Unexplained shares of the noise are 1 where nothing is found." if network.objective.sigmas else "",
        limits=LIMITS,
    )
