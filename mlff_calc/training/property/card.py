"""The card of a property network: its data, errors and limits."""

from __future__ import annotations

from mlff_calc.training.card import card_text, table
from mlff_calc.training.property.data import Labelled
from mlff_calc.training.property.recipe import PropertyRecipe
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.task import Outcome

LIMITS = (
    "Structures unlike the training data: intervals hold for structures that are drawn like the validation frames. The mean "
    "of a distribution stays within its bins. There are no forces."
)


def write_card(outcome: Outcome[PropertyRecipe, Labelled]) -> str:
    """Write the card as Markdown."""
    network, recipe = outcome.network, outcome.recipe
    rows: list[tuple[object, ...]] = [("part", "structures", "files")]
    rows += [(part, len(one), ", ".join(path.name for path in one.paths)) for part, one in outcome.parts.items()]
    about = [recipe.card.data, ""] if recipe.card.data else []
    unit = f" ({network.unit})" if network.unit else ""
    same = "Intervals were calibrated on these same structures, so that their coverage is no test."
    return card_text(
        outcome,
        "structures",
        what="a property",
        about=f"It predicts {network.name}{unit} with an error bar, by the head {network.config['head']['name']} (pooling "
        f"{network.config['pooling']}), for a total charge of {network.charge} e.",
        data=[*about, *table(rows)],
        start=f"Fine-tuned from {without_folder(recipe.fine_tune_from)}." if recipe.fine_tune_from else "",
        below="" if outcome.judged == "test" else same,
        limits=LIMITS,
    )
