"""From recipe and data to the potential that is trained: a new one, or one to go on from."""

from __future__ import annotations

from typing import Any

from ase.data import chemical_symbols

from mlff_calc.datasets import fit_reference_energies, force_rms
from mlff_calc.errors import RecipeError
from mlff_calc.potential import Potential, build_potential
from mlff_calc.training.data import GraphFrames
from mlff_calc.training.frames import Frames, symbol_number
from mlff_calc.training.recipe import Recipe


def reference_energies(recipe: Recipe, frames: Frames, elements: list[int]) -> dict[int, float]:
    """Energy of each element (eV): as the recipe says, or fitted to the training energies by least squares.

    Where the training frames cannot tell elements apart (one composition only) the fit of smallest norm is taken.

    Raises:
        RecipeError: The recipe names energies and leaves an element out.
    """
    given = recipe.reference_energies
    if not isinstance(given, str):
        energies = {symbol_number(symbol, recipe): energy for symbol, energy in given.items()}
        missing = [chemical_symbols[z] for z in elements if z not in energies]
        if missing:
            raise RecipeError(
                f"{recipe.origin}: reference_energies lacks {' '.join(missing)}; give all elements, or write `fit`"
            )
        return {z: energies[z] for z in elements}
    if not any(sample.energy is not None for sample in frames.samples):
        return dict.fromkeys(elements, 0.0)  # nothing to fit, and check_labels has seen that energies have no weight
    return fit_reference_energies(frames.samples, elements)


def force_scale(frames: Frames) -> float:
    """Root mean square of the components of the training forces (eV/Angstrom); 1 where there are none."""
    if not any(sample.forces is not None for sample in frames.samples):
        return 1.0
    rms = force_rms(frames.samples)
    return rms if rms > 0.0 else 1.0


def new_config(recipe: Recipe, frames: Frames) -> dict[str, Any]:
    """The configuration of a new potential; `avg_num_neighbors` still is as the recipe has it.

    Raises:
        RecipeError: An unknown element, or reference energies that leave one out.
    """
    section = recipe.potential
    if section is None:
        raise RecipeError(f"{recipe.origin}: there is no section `potential`")
    listed = set() if isinstance(section.elements, str) else {symbol_number(s, recipe) for s in section.elements}
    elements = sorted(frames.elements() | listed)
    return section.config() | {
        "elements": elements,
        "reference_energies": {str(z): e for z, e in reference_energies(recipe, frames, elements).items()},
        "scale": force_scale(frames) if isinstance(section.scale, str) else section.scale,
        "avg_num_neighbors": 10.0 if isinstance(section.avg_num_neighbors, str) else section.avg_num_neighbors,
    }


def new_potential(recipe: Recipe, frames: Frames) -> tuple[Potential, GraphFrames]:
    """Build the potential a recipe describes, and the graphs of its training frames.

    Raises:
        RecipeError: An option the backbone does not know or that is out of range; the message names the recipe.
    """
    config = new_config(recipe, frames)
    try:
        cutoff = build_potential(config, seed=recipe.trainer.seed).cutoff
    except RecipeError as error:
        raise RecipeError(f"{recipe.origin}: potential: {error}") from error
    graphs = GraphFrames(frames.samples, cutoff)
    if recipe.potential is not None and recipe.potential.avg_num_neighbors == "auto":
        config["avg_num_neighbors"] = max(1.0, round(graphs.average_neighbors(), 3))
    return build_potential(config, seed=recipe.trainer.seed).to_precision(recipe.trainer.precision), graphs
