"""ASE calculators for one potential, a committee of potentials, or an SCF; they also accept structures of pymatgen."""

from __future__ import annotations

from mlff_calc.calculators.checks import IgnoredInputWarning
from mlff_calc.calculators.committee import CommitteeCalculator, CommitteeWarning
from mlff_calc.calculators.convert import to_atoms
from mlff_calc.calculators.egxc import EGXCCalculator
from mlff_calc.calculators.extrapolation import DomainWarning
from mlff_calc.calculators.freeze import freeze
from mlff_calc.calculators.mlff import MLFFCalculator
from mlff_calc.calculators.scf import SCFCalculator
from mlff_calc.calculators.stats import CalculatorStats

__all__ = [
    "CalculatorStats",
    "CommitteeCalculator",
    "CommitteeWarning",
    "DomainWarning",
    "EGXCCalculator",
    "IgnoredInputWarning",
    "MLFFCalculator",
    "SCFCalculator",
    "freeze",
    "to_atoms",
]
