"""Training of networks: recipes, losses, the Lightning run, fine-tuning and evaluation.

`run.train` carries out a whole run of any kind (`kinds`), and `evaluate.evaluate` judges a potential. Lightning is
imported only when a run starts.
"""

from __future__ import annotations

from mlff_calc.training.potential.evaluate import evaluate
from mlff_calc.training.potential.report import EvaluationReport
from mlff_calc.training.recipe import load_recipe
from mlff_calc.training.run import TrainingResult, train

__all__ = ["EvaluationReport", "TrainingResult", "evaluate", "load_recipe", "train"]
