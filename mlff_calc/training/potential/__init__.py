"""Potentials as a trainable kind."""

from __future__ import annotations

from mlff_calc.training.potential.task import PotentialTask

__all__ = ["PotentialTask"]
