"""Potentials: a backbone and an energy head as one thing; build, evaluate, save, load, list what ships."""

from mlff_calc.potential.evaluate import evaluate_atoms
from mlff_calc.potential.files import PotentialEntry, list_potentials, load_potential, save_potential
from mlff_calc.potential.model import PRECISIONS, Potential, build_potential

__all__ = [
    "PRECISIONS",
    "Potential",
    "PotentialEntry",
    "build_potential",
    "evaluate_atoms",
    "list_potentials",
    "load_potential",
    "save_potential",
]
