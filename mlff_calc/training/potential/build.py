"""Building the potential that is trained from a recipe and data: a new one, or one to fine-tune."""

from __future__ import annotations

from typing import Any

import torch

from mlff_calc.datasets import force_rms
from mlff_calc.errors import RecipeError
from mlff_calc.potential import Potential, build_potential
from mlff_calc.training.frames.read import Frames, symbol_number
from mlff_calc.training.potential.data import GraphSource, graph_frames
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.potential.references import origin_of, reference_energies, refuse_neighbours
from mlff_calc.training.recipe_limits import naming


def force_scale(frames: Frames) -> float:
    """Return the root mean square of the components of the training forces (eV/Angstrom); 1 where there are none."""
    if not any(outline.forces is not None for outline in frames.surveyed().outlines):
        return 1.0
    rms = force_rms(frames.samples)
    return rms if rms > 0.0 else 1.0


def new_config(recipe: PotentialRecipe, frames: Frames) -> dict[str, Any]:
    """Return the configuration of a new potential; `avg_num_neighbors` is not measured yet.

    Raises:
        RecipeError: An element is unknown, or the reference energies leave one out.
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


def _begin_at_the_mean(potential: Potential, frames: Frames) -> None:
    """Set the bias so that the learned part begins at the mean energy per atom left by the reference energies.

    Energies of isolated atoms leave the energy of all bonds, some eV per atom, which would otherwise take thousands of
    steps to learn.
    """
    references = {int(z): energy for z, energy in potential.config["reference_energies"].items()}
    left = [
        (sample.energy - sum(references[int(z)] for z in sample.atoms.numbers), len(sample.atoms))
        for sample in frames.samples
        if sample.energy is not None
    ]
    if not left:
        return
    mean = sum(energy for energy, _ in left) / sum(n_atoms for _, n_atoms in left)
    head: Any = potential.heads["energy"]
    with torch.no_grad():
        head.last.bias += mean / float(head.scale)


def new_potential(recipe: PotentialRecipe, frames: Frames) -> tuple[Potential, GraphSource]:
    """Build the potential that a recipe describes, and the graphs of its training frames.

    Raises:
        RecipeError: An option is unknown to the backbone or out of range; the message names the recipe.
        DatasetError: Frames that should give reference energies are not isolated atoms.
    """
    config = new_config(recipe, frames)
    with naming(recipe, "potential"):
        cutoff = build_potential(config, seed=recipe.trainer.seed).cutoff
    if origin_of(recipe, frames) == "from isolated atoms":
        refuse_neighbours(frames.isolated, cutoff)
    graphs = graph_frames(frames.samples, cutoff, frames.weights)
    if recipe.potential is not None and recipe.potential.avg_num_neighbors == "auto":
        config["avg_num_neighbors"] = max(1.0, round(graphs.average_neighbors(), 3))
    potential = build_potential(config, seed=recipe.trainer.seed)
    if origin_of(recipe, frames) != "fitted to the training energies":
        _begin_at_the_mean(potential, frames)
    return potential.to_precision(recipe.trainer.precision), graphs
