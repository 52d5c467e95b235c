"""Properties of structures as a trainable kind: one number of each, with calibrated error bars."""

from __future__ import annotations

from mlff_calc.training.property.evaluate import PropertyReport, evaluate_property
from mlff_calc.training.property.recipe import PropertyRecipe

__all__ = ["PropertyRecipe", "PropertyReport", "evaluate_property"]
