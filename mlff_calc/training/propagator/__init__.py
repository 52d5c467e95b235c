"""Propagators as a trainable kind: recipes, data, loss and evaluation.

`mlff_calc.training.train` trains them like every kind. `evaluate_propagator` compares one with two guesses that need no
network.
"""

from __future__ import annotations

from mlff_calc.training.propagator.evaluate import MotionReport, evaluate_motion_file, evaluate_propagator
from mlff_calc.training.propagator.recipe import MotionRecipe

__all__ = [
    "MotionRecipe",
    "MotionReport",
    "evaluate_motion_file",
    "evaluate_propagator",
]
