"""Pretraining of backbones as a trainable kind: by noise in positions, by reconstruction, or by a cheap method."""

from __future__ import annotations

from mlff_calc.training.pretraining.evaluate import PretrainingReport, evaluate_pretraining
from mlff_calc.training.pretraining.recipe import PretrainingRecipe

__all__ = ["PretrainingRecipe", "PretrainingReport", "evaluate_pretraining"]
