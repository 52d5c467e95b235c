"""Rollouts as a trainable kind: recipes, data, measured constants, loss and evaluation."""

from __future__ import annotations

from mlff_calc.training.rollout.evaluate import RolloutReport, evaluate_rollout
from mlff_calc.training.rollout.recipe import RolloutRecipe

__all__ = ["RolloutRecipe", "RolloutReport", "evaluate_rollout"]
