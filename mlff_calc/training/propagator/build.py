"""Building the propagator that is trained from a recipe and training samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlff_calc.datasets.motion import MotionSample
from mlff_calc.propagator import Propagator, average_neighbors, build_propagator, longest_edge, scales_of
from mlff_calc.training.propagator.parts import Inputs
from mlff_calc.training.propagator.recipe import MotionRecipe
from mlff_calc.training.recipe_limits import naming

REACH = 1.5
"""Factor between the longest edge and a cutoff that is `auto`. Raising it makes the envelope weaken the edges less."""


def new_config(recipe: MotionRecipe, samples: Sequence[MotionSample]) -> dict[str, Any]:
    """Return the configuration of a new propagator, with values measured on its training samples."""
    measured = {
        "cutoff": float(f"{REACH * longest_edge(samples):.4g}"),
        "avg_num_neighbors": round(average_neighbors(samples), 3),
    }
    inputs = Inputs.of_samples(samples)
    return recipe.propagator.config() | {
        "backbone": recipe.propagator.backbone.measured(measured),
        "kinds": sorted(inputs.kinds),
        "n_scalars": inputs.n_scalars,
        "n_edge_scalars": inputs.n_edge_scalars,
        **scales_of(samples),
    }


def new_propagator(recipe: MotionRecipe, samples: Sequence[MotionSample]) -> Propagator:
    """Build the propagator that a recipe describes.

    Raises:
        RecipeError: An option is out of range; the message names the recipe.
    """
    with naming(recipe, "propagator"):
        propagator = build_propagator(new_config(recipe, samples), seed=recipe.trainer.seed)
    return propagator.to_precision(recipe.trainer.precision)
