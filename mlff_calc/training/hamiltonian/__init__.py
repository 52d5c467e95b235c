"""Networks for Fock matrices as a trainable kind: regression or flow matching on molecules with converged matrices."""

from __future__ import annotations

from mlff_calc.training.hamiltonian.recipe import HamiltonianRecipe

__all__ = ["HamiltonianRecipe"]
