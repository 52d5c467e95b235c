"""Building the score model that is trained from a recipe and training frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import RecipeError
from mlff_calc.graph.bonds import atom_classes, bonds_of, hop_counts
from mlff_calc.score import ScoreModel, build_score_model
from mlff_calc.score.moments import FloatArray, clipped, dimensions_of, information_of, spread_of
from mlff_calc.score.stiffness import fit_springs
from mlff_calc.training.recipe_limits import naming
from mlff_calc.training.score.data import Structures
from mlff_calc.training.score.recipe import ScoreRecipe

REACH = 1.3
"""Factor between the longest distance of atoms and a cutoff that is `auto`. Raising it makes the envelope
weaken edges less."""
SMALLEST, LARGEST = 0.15, 3.0
"""Noise levels that are `auto`: the smallest in units of 1/sqrt(I), the largest in units of the spread."""


def new_config(recipe: ScoreRecipe, structures: Structures) -> dict[str, Any]:
    """Return the configuration of a new score model, with values measured on its training frames."""
    section, positions = recipe.score, structures.positions
    dimensions = dimensions_of(positions)
    labelled = np.isfinite(structures.forces).all(axis=(1, 2))
    scores = structures.forces[labelled] / section.thermal_energy
    bonds = bonds_of(structures.numbers, positions) if section.bonds == "auto" else []
    spread = spread_of(positions, dimensions)
    information = information_of(clipped(scores, recipe.loss.clip), dimensions) if len(scores) else (100.0 / spread) ** 2
    longest = max(float(np.linalg.norm(x[:, None] - x[None, :], axis=-1).max()) for x in positions)
    measured = {"cutoff": float(f"{REACH * longest:.4g}"), "avg_num_neighbors": float(positions.shape[1] - 1)}
    noise = {"sigma_min": SMALLEST * information**-0.5, "sigma_max": LARGEST * spread}
    given = {key: value for key, value in section.noise().items() if value is not None}
    return section.config() | {
        "backbone": section.backbone.measured(measured),
        "numbers": structures.numbers.tolist(),
        "bonds": bonds,
        "information": float(f"{information:.6g}"),
        "spread": float(f"{spread:.6g}"),
        "dimensions": dimensions,
        "target": recipe.loss.target,
        "window": recipe.loss.window,
        "springs": _springs(recipe, structures.numbers, bonds, positions[labelled], clipped(scores, recipe.loss.clip)),
        "clip": recipe.loss.clip,
        **{key: float(f"{value:.6g}") for key, value in (noise | given).items()},
    }


def _springs(
    recipe: ScoreRecipe, numbers: NDArray[np.int64], bonds: list[list[int]], positions: FloatArray, scores: FloatArray
) -> list[tuple[int, int, float]]:
    """Springs between atoms for the target `directional`; none for others."""
    if recipe.loss.target != "directional":
        return []
    if not bonds:
        raise RecipeError(
            f"{recipe.origin}: loss.target directional reads the stiffness of bonds, and the structures have none; set "
            "loss.target: optimal, or score.bonds: auto for a molecule"
        )
    found = fit_springs(positions, scores, atom_classes(numbers, bonds), hop_counts(len(numbers), bonds))
    if not found:
        raise RecipeError(
            f"{recipe.origin}: loss.target directional fits springs to the forces, and none of them pulls back; look at the "
            "sign and unit of the forces, or set loss.target: optimal"
        )
    return found


def new_score_model(recipe: ScoreRecipe, structures: Structures) -> ScoreModel:
    """Build the score model that a recipe describes.

    Raises:
        RecipeError: An option is out of range; the message names the recipe.
    """
    config = new_config(recipe, structures)
    with naming(recipe, "score"):
        model = build_score_model(config, seed=recipe.trainer.seed)
    return model.to_precision(recipe.trainer.precision)
