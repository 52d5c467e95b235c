"""Heads: node features to quantities."""

from mlff_calc.heads.direct_forces import DirectForcesHead
from mlff_calc.heads.energy import EnergyHead
from mlff_calc.heads.repulsion import ZBLRepulsion

__all__ = ["DirectForcesHead", "EnergyHead", "ZBLRepulsion"]
