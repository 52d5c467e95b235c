"""Heads: node features to quantities."""

from mlff_calc.heads.denoising import DenoisingHead
from mlff_calc.heads.direct_forces import DirectForcesHead
from mlff_calc.heads.displacement import DisplacementHead
from mlff_calc.heads.energy import EnergyHead
from mlff_calc.heads.repulsion import ZBLRepulsion

__all__ = ["DenoisingHead", "DirectForcesHead", "DisplacementHead", "EnergyHead", "ZBLRepulsion"]
