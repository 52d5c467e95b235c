"""Learned exchange-correlation functionals as a trainable kind: energies, at densities that are frozen between refreshes."""

from __future__ import annotations

from mlff_calc.training.functional.recipe import FunctionalRecipe

__all__ = ["FunctionalRecipe"]
