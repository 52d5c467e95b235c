"""The card of a trained network for Fock matrices: its level, data, errors and limits."""

from __future__ import annotations

from collections import Counter

from mlff_calc.training.card import card_text, table
from mlff_calc.training.hamiltonian.files import MatrixFrames
from mlff_calc.training.hamiltonian.recipe import HamiltonianRecipe
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.task import Outcome

LIMITS = (
    "Other functionals, basis sets, elements, charges and spins than those of the training, "
    "and geometries far from those of the training, where a matrix may be worse than that of the initial density."
)


def write_card(outcome: Outcome[HamiltonianRecipe, MatrixFrames]) -> str:
    """Write the card as Markdown."""
    network, recipe, report = outcome.network, outcome.recipe, outcome.report
    start = recipe.hamiltonian.fine_tune_from
    rows: list[tuple[object, ...]] = [("part", "molecules", "formulas")]
    for part, one in outcome.parts.items():
        formulas = Counter(frame.atoms.get_chemical_formula() for frame in one).most_common(5)
        rows.append((part, len(one), ", ".join(formula for formula, _ in formulas)))
    level = ", ".join(f"{key} {value}" for key, value in network.config["settings"].items())
    reference = (
        "It predicts what is added to the Fock matrix of the initial density, which costs one Fock build for each prediction"
        if network.adds_initial
        else "It needs no Fock build"
    )
    flow = f"; flow of {report.steps} steps" if report.steps else ""
    return card_text(
        outcome,
        "molecules",
        what="Fock matrices",
        about=f"It predicts Fock matrices in the basis {network.basis.name}{f' ({level})' if level else ''}. {reference}.",
        data=[recipe.card.data or f"The file {without_folder(recipe.data.file)}.", "", *table(rows)],
        start=f"Fine-tuned from {without_folder(start)}." if start else "",
        below="Mean absolute errors of entries of the matrix, of its blocks, by elements, and of energies of orbitals; mean "
        f"cosine of occupied columns. {report.ms_per_molecule:.2f} ms per molecule{flow}. The row `initial` is the Fock "
        "matrix of the initial density.",
        limits=LIMITS,
    )
