"""Recipes, losses, the Lightning run, fine-tuning and evaluation: how a network comes to be.

`run.train` is the whole road of every kind (`kinds`); `evaluate.evaluate` judges a potential. Lightning is imported
only when a run starts.
"""

from __future__ import annotations

from mlff_calc.training.potential.evaluate import evaluate
from mlff_calc.training.potential.report import EvaluationReport
from mlff_calc.training.recipe import load_recipe
from mlff_calc.training.run import TrainingResult, train

__all__ = ["EvaluationReport", "TrainingResult", "evaluate", "load_recipe", "train"]
