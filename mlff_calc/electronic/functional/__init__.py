"""Learned exchange-correlation functionals: a semi-local energy density weighted by a network over the electron density."""

from __future__ import annotations

from mlff_calc.electronic.functional.build import build_functional
from mlff_calc.electronic.functional.grid import DensityGrid
from mlff_calc.electronic.functional.load import load_functional
from mlff_calc.electronic.functional.model import FunctionalNetwork

__all__ = ["DensityGrid", "FunctionalNetwork", "build_functional", "load_functional"]
