"""Training and judging propagators: recipes, data, loss, the run and the evaluation.

`train_propagator` is the whole road; `evaluate_propagator` judges a propagator beside two guesses that need no network.
Lightning is imported only when a run starts.
"""

from __future__ import annotations

from mlff_calc.training.motion.evaluate import MotionReport, evaluate_motion_file, evaluate_propagator
from mlff_calc.training.motion.recipe import MotionRecipe, load_any_recipe, load_motion_recipe, parse_motion_recipe
from mlff_calc.training.motion.run import PropagatorResult, train_propagator

__all__ = [
    "MotionRecipe",
    "MotionReport",
    "PropagatorResult",
    "evaluate_motion_file",
    "evaluate_propagator",
    "load_any_recipe",
    "load_motion_recipe",
    "parse_motion_recipe",
    "train_propagator",
]
