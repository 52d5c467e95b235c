"""The card of a learned functional: its level, data, rounds, errors and limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ase.data import chemical_symbols

from mlff_calc.training.card import card_text, table
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.functional.recipe import FunctionalRecipe
from mlff_calc.training.functional.rounds import RoundReport
from mlff_calc.training.task import Outcome

LIMITS = (
    "Other bases, grids, elements, charges and spins than those of the training, dispersion, "
    "and geometries far from those of the training. It is not a universal functional."
)


def write_card(outcome: Outcome[FunctionalRecipe, Frames], rounds: Sequence[RoundReport]) -> str:
    """Write the card as Markdown."""
    network, recipe = outcome.network, outcome.recipe
    rows: list[tuple[object, ...]] = [("part", "molecules", "compositions", "electrons")]
    for part, frames in outcome.parts.items():
        formulas = Counter(sample.atoms.get_chemical_formula() for sample in frames.samples).most_common(5)
        electrons = sorted(int(sample.atoms.numbers.sum()) for sample in frames.samples)
        span = str(electrons[0]) if electrons[0] == electrons[-1] else f"{electrons[0]} to {electrons[-1]}"
        rows.append((part, len(frames), ", ".join(formula for formula, _ in formulas), span))
    files = dict.fromkeys(path.name for frames in outcome.parts.values() for path in frames.paths)
    constants = ", ".join(f"{chemical_symbols[int(z)]} {value:.6f}" for z, value in network.config["constants"].items())
    refreshes = [f"- {one}" for one in rounds]
    level = network.config["level"] or "a level that the files do not name"
    return card_text(
        outcome,
        "molecules",
        what="exchange-correlation functional",
        about=f"A functional for {network.basis}, grid {network.grid_level} without pruning, on {network.base.upper()}, "
        f"trained on energies of {level}. Constants of elements (Hartree): {constants}.",
        data=[recipe.card.data or f"The files {', '.join(files)}.", "", *table(rows), "", *refreshes],
        below="Every energy is self-consistent in PySCF. `relative`: after the mean error of each composition is removed. "
        "`base + constants` has constants of elements fitted to it.",
        limits=LIMITS,
    )
