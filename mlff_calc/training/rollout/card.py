"""The card of a trained rollout: its molecule, data, errors and limits."""

from __future__ import annotations

from ase import Atoms

from mlff_calc.datasets.motion.windows import Windows
from mlff_calc.training.card import card_text, table
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.rollout.recipe import RolloutRecipe
from mlff_calc.training.task import Outcome

LIMITS = (
    "Other molecules, other temperatures than that of the trajectory, and times beyond the horizon. It predicts the mean of "
    "possible motions with its error, which is no motion itself where the error is large: bonds are too short there."
)


def write_card(outcome: Outcome[RolloutRecipe, Windows]) -> str:
    """Write the card as Markdown."""
    model, recipe, report = outcome.network, outcome.recipe, outcome.report
    rows: list[tuple[object, ...]] = [("part", "windows", "frames of the trajectory")]
    rows += [
        (part, len(one), f"{one.span[0]} to {one.span[1] - 1 + one.frames}") for part, one in outcome.parts.items()
    ]
    run = next(iter(outcome.parts.values())).run
    formula = Atoms(numbers=model.config["numbers"]).get_chemical_formula()
    speeds = "central differences of positions" if run.differences else "those of the file"
    about = recipe.card.data or f"The file {without_folder(recipe.data.file)}."
    inside = report.coverage.items()
    shares = ", ".join(f"{100.0 * share:.1f} % of positions in intervals of {level}" for level, share in inside)
    return card_text(
        outcome,
        "windows",
        what="a rollout",
        about=f"It predicts positions and velocities of {formula} up to {model.horizon:g} fs after one state, with error "
        f"bars (base {model.base.name}, {len(model.eigenvalues)} modes of the graph).",
        data=[about, f"Frames are {run.timestep:g} fs apart; velocities are {speeds}.", "", *table(rows)],
        below="Mean squares of positions, also by quarter of the horizon, mean absolute errors of bond lengths, root mean "
        "squares of velocities. "
        f"{shares}. "
        f"{report.ms_per_trajectory:.2f} ms per trajectory. The rows below the rollout need no network.",
        limits=LIMITS,
    )
