"""The card of a trained propagator: its predictions, errors and limits."""

from __future__ import annotations

from collections.abc import Sequence

from mlff_calc.datasets.motion import MotionSample
from mlff_calc.training.card import card_text, table
from mlff_calc.training.propagator.recipe import MotionRecipe
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.task import Outcome


def write_card(outcome: Outcome[MotionRecipe, Sequence[MotionSample]]) -> str:
    """Write the card as Markdown."""
    what = "positions and velocities" if outcome.network.config["predict_velocities"] else "positions"
    rows: list[tuple[object, ...]] = [("part", "samples", "particles", "time ahead")]
    for part, samples in outcome.parts.items():
        sizes = sorted({len(sample.kinds) for sample in samples})
        times = sorted({sample.horizon for sample in samples})
        rows.append((part, len(samples), _span(sizes), _span(times)))
    about_data = outcome.recipe.card.data or f"The file {without_folder(outcome.recipe.data.file)}."
    return card_text(
        outcome,
        "samples",
        what="a propagator",
        about=f"It predicts {what} a time after a frame.",
        data=[about_data, "", *table(rows)],
        below="In the units of the data. The rows below the propagator need no network.",
        limits="Another time ahead, other kinds of particles, and systems unlike the training data.",
    )


def _span(values: list[int] | list[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
