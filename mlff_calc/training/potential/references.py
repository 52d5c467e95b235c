"""Origin of the reference energies of the elements: the recipe, frames of isolated atoms, or a fit.

`reference_energies` of a recipe decides. The default `auto` means `isolated` if the training files hold isolated atoms
with energies, as in MACE, and `fit` otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from ase.data import chemical_symbols

from mlff_calc.datasets import Sample, fit_reference_energies
from mlff_calc.datasets.isolated import isolated_energies
from mlff_calc.datasets.weights import weight_lines
from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.potential import Potential
from mlff_calc.training.frames.read import Frames, symbol_number
from mlff_calc.training.potential.recipe import PotentialRecipe

Origin = Literal["given in the recipe", "from isolated atoms", "fitted to the training energies"]


def origin_of(recipe: PotentialRecipe, frames: Frames) -> Origin:
    """Return where the reference energies come from, in words.

    Args:
        recipe: Recipe.
        frames: Training frames.

    Raises:
        RecipeError: The recipe requires isolated atoms, and there are none with an energy.
    """
    asked = recipe.reference_energies
    if not isinstance(asked, str):
        return "given in the recipe"
    there = any(sample.energy is not None for sample in frames.isolated)
    if asked == "isolated" and not there:
        held = f"holds {len(frames.isolated)} such frames without an energy" if frames.isolated else "holds no such frame"
        raise RecipeError(
            f"{recipe.origin}: reference_energies is isolated, but {frames.where} {held}; mark frames of one atom with "
            "config_type=IsolatedAtom (the key is data.keys.config_type), or write `fit`"
        )
    if asked == "isolated" or (asked == "auto" and there and not recipe.continues()):
        return "from isolated atoms"
    return "fitted to the training energies"


def reference_energies(recipe: PotentialRecipe, frames: Frames, elements: Sequence[int]) -> dict[int, float]:
    """Return the reference energy of each element (eV), from the origin that `origin_of` names.

    Where the training frames cannot distinguish elements (a single composition), the fit has the smallest norm.

    Raises:
        RecipeError: The recipe or the isolated atoms lack an element.
        DatasetError: Isolated atoms of an element disagree.
    """
    origin = origin_of(recipe, frames)
    if origin == "given in the recipe":
        return given_energies(recipe, elements)
    if origin == "from isolated atoms":
        return isolated_references(recipe, frames, elements)
    if not any(outline.energy is not None for outline in frames.surveyed().outlines):
        return dict.fromkeys(elements, 0.0)  # nothing to fit; check_labels made sure that energies have no weight
    return fit_reference_energies(frames.samples, elements)


def given_energies(recipe: PotentialRecipe, elements: Sequence[int]) -> dict[int, float]:
    """Return the energies in the recipe, for each of the elements.

    Raises:
        RecipeError: The recipe lacks an element.
    """
    given = recipe.reference_energies
    energies = {} if isinstance(given, str) else {symbol_number(symbol, recipe): e for symbol, e in given.items()}
    missing = [chemical_symbols[z] for z in elements if z not in energies]
    if missing:
        raise RecipeError(
            f"{recipe.origin}: reference_energies lacks {' '.join(missing)}; give all elements, or write `fit`"
        )
    return {z: energies[z] for z in elements}


def isolated_references(recipe: PotentialRecipe, frames: Frames, elements: Sequence[int]) -> dict[int, float]:
    """Return the energies of isolated atoms, for each of the elements.

    Raises:
        RecipeError: An element has no isolated atom with an energy.
        DatasetError: Two frames of an element disagree.
    """
    energies = isolated_energies(frames.isolated)
    missing = [z for z in elements if z not in energies]
    if missing:
        without = [sample.place for sample in frames.isolated if sample.atoms.numbers[0] in missing]
        hint = f" (there is no energy in {'; '.join(without)})" if without else ""
        raise RecipeError(
            f"{recipe.origin}: reference energies are taken from isolated atoms, but {frames.where} holds none with an "
            f"energy of {' '.join(chemical_symbols[z] for z in missing)}{hint}; add such frames, or write "
            "reference_energies: fit"
        )
    return {z: energies[z] for z in elements}


def refuse_neighbours(isolated: Sequence[Sample], cutoff: float) -> None:
    """Refuse isolated atoms with periodic images within the cutoff.

    Args:
        isolated: Frames of one atom.
        cutoff: Cutoff radius, Angstrom.

    Raises:
        DatasetError: An atom has neighbours; the message names file and frame.
    """
    for sample in isolated:
        n_edges = graph_from_atoms(sample.atoms, cutoff)["edge_index"].shape[1]
        if n_edges:
            raise DatasetError(
                f"{sample.place}: is marked as an isolated atom, but its cell repeats it {n_edges} times within the cutoff "
                f"of {cutoff:g} Angstrom; take the energy of an atom in a larger cell, or write reference_energies: fit"
            )


def references_line(energies: Mapping[str, float], origin: str) -> str:
    """Format reference energies, as in ``reference energies from isolated atoms: H -13.568 eV, O -432.1 eV``.

    Args:
        energies: Energies in eV by atomic number, as in the configuration of a potential.
        origin: Result of `origin_of`.
    """
    listed = ", ".join(f"{chemical_symbols[int(z)]} {energy:.10g} eV" for z, energy in energies.items())
    return f"reference energies {origin}: {listed}"


def notes_of(recipe: PotentialRecipe, potential: Potential, parts: Mapping[str, Frames]) -> list[str]:
    """List the decisions about the data, besides counts: reference energies, isolated atoms, weights.

    Args:
        recipe: Recipe.
        potential: Potential that is trained; its configuration holds the reference energies.
        parts: Frames by part.
    """
    notes = [references_line(potential.config["reference_energies"], origin_of(recipe, parts["train"]))]
    n_isolated = sum(len(frames.isolated) for frames in parts.values())
    if n_isolated:
        kept = recipe.data.keep_isolated_atoms
        what = "are among the other frames (data.keep_isolated_atoms)" if kept else "are in no part of the data"
        notes.append(f"{n_isolated} frames of isolated atoms {what}")
    weights = parts["train"].weights
    if weights is not None:
        notes += [f"weights of {line}" for line in weight_lines(parts["train"].surveyed().outlines, weights)]
    return notes
