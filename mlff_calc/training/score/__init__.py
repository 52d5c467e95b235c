"""Score models as a trainable kind: potential score matching on frames of one molecule or cluster with forces."""

from __future__ import annotations

from mlff_calc.training.score.recipe import ScoreRecipe

__all__ = ["ScoreRecipe"]
