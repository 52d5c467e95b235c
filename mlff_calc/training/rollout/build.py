"""Building the rollout that is trained from a recipe and training windows."""

from __future__ import annotations

import numpy as np

from mlff_calc.datasets.motion.windows import MOST_SPACING, Windows
from mlff_calc.rollout import Rollout, build_rollout
from mlff_calc.training.recipe_limits import naming
from mlff_calc.training.rollout.data import Molecule
from mlff_calc.training.rollout.measure import measure
from mlff_calc.training.rollout.recipe import RolloutRecipe

REACH = 1.3
"""Factor between the longest distance of atoms and a cutoff that is `auto`. Raising it makes the envelope
weaken edges less."""


def new_rollout(recipe: RolloutRecipe, windows: Windows, molecule: Molecule) -> Rollout:
    """Build the rollout that a recipe describes, with constants measured on its training windows.

    Raises:
        RecipeError: An option is out of range, or a cut goes through an eigenspace.
    """
    section, run = recipe.rollout, windows.run
    some = run.positions[windows.evenly(200)]
    longest = float(np.linalg.norm(some[:, :, None] - some[:, None], axis=-1).max())
    options = {"cutoff": float(f"{REACH * longest:.4g}"), "avg_num_neighbors": float(len(molecule.numbers) - 1)}
    plain = recipe.data.heavy_atoms or run.timestep > MOST_SPACING
    base = section.base or ("harmonic" if plain else "valence")
    measured = measure(windows, molecule, base)
    config = section.config(base) | measured.config
    config |= {
        "backbone": section.backbone.measured(options), "numbers": molecule.numbers, "bonds": molecule.bonds,
        "masses": molecule.masses, "horizon": windows.horizon, "heavy_atoms": recipe.data.heavy_atoms,
    }  # fmt: skip
    with naming(recipe, "rollout"):
        rollout = build_rollout(config, seed=recipe.trainer.seed)
    measured.fill(rollout)
    return rollout.to_precision(recipe.trainer.precision)
