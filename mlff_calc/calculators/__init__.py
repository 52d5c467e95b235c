"""ASE calculators for one potential or a committee of potentials; they also accept structures of pymatgen."""

from __future__ import annotations

from mlff_calc.calculators.checks import IgnoredInputWarning
from mlff_calc.calculators.committee import CommitteeCalculator, CommitteeWarning
from mlff_calc.calculators.convert import to_atoms
from mlff_calc.calculators.extrapolation import DomainWarning
from mlff_calc.calculators.freeze import freeze
from mlff_calc.calculators.mlff import MLFFCalculator
from mlff_calc.calculators.stats import CalculatorStats

__all__ = [
    "CalculatorStats",
    "CommitteeCalculator",
    "CommitteeWarning",
    "DomainWarning",
    "IgnoredInputWarning",
    "MLFFCalculator",
    "freeze",
    "to_atoms",
]
