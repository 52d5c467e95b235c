"""Building the network that is pretrained from a recipe and training frames, with its batches and objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlff_calc.datasets import fit_reference_energies
from mlff_calc.pretraining import PretrainingNetwork, build_pretraining
from mlff_calc.training.data import BatchSource
from mlff_calc.training.frames.read import Frames, refuse_weights
from mlff_calc.training.objective import Objective
from mlff_calc.training.potential.build import force_scale
from mlff_calc.training.potential.data import GraphSource, graph_frames
from mlff_calc.training.potential.objective import PotentialObjective
from mlff_calc.training.pretraining.data import NoiseFrames
from mlff_calc.training.pretraining.objective import NoiseObjective
from mlff_calc.training.pretraining.recipe import AUTO, PretrainingRecipe
from mlff_calc.training.recipe_limits import naming


def new_pretraining(
    recipe: PretrainingRecipe, parts: Mapping[str, Frames]
) -> tuple[PretrainingNetwork, Objective, BatchSource, BatchSource]:
    """Build the network that a recipe describes, its objective, and the batches of training and validation.

    Raises:
        RecipeError: An option is out of range; the message names the recipe.
        DatasetError: A structure cannot be learned from; the message names it.
    """
    section, train = recipe.pretraining, parts["train"]
    config: dict[str, Any] = section.config() | {"elements": sorted(train.elements())}
    is_supervised = section.objective.name == "supervised"
    if is_supervised:
        config |= _measured(train, config["elements"])
    with naming(recipe, "pretraining"):
        first = build_pretraining(config | {"backbone": section.backbone.measured(AUTO)}, seed=recipe.trainer.seed)
    sources = {part: _source(frames, first, is_supervised) for part, frames in parts.items()}  # also of test, as a check
    measured = AUTO | {"avg_num_neighbors": round(max(1.0, sources["train"].average_neighbors()), 3)}
    network = build_pretraining(config | {"backbone": section.backbone.measured(measured)}, seed=recipe.trainer.seed)
    network = network.to_precision(recipe.trainer.precision)
    objective = PotentialObjective(recipe.loss.of_labels()) if is_supervised else NoiseObjective(network, recipe.loss)
    return network, objective, sources["train"], sources["valid"]


def _measured(train: Frames, elements: list[int]) -> dict[str, Any]:
    """Reference energies and the scale of energies, from the labels of the training frames."""
    energies = dict.fromkeys(elements, 0.0)
    if any(outline.energy is not None for outline in train.surveyed().outlines):
        energies = fit_reference_energies(train.samples, elements)
    return {
        "references": {str(z): float(energy) for z, energy in energies.items()},
        "objective": {"name": "supervised", "scale": float(force_scale(train))},
    }


def _source(frames: Frames, network: PretrainingNetwork, is_supervised: bool) -> GraphSource | NoiseFrames:
    """Batches of a part."""
    if is_supervised:
        return graph_frames(frames.samples, network.cutoff, frames.weights)
    refuse_weights(frames, "noise counts alike in all of them")
    return NoiseFrames(frames.samples, network.cutoff, network.objective)
