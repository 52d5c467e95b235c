"""Heads: node features to quantities. Importing this package registers all of them."""

from mlff_calc.heads.base import (
    Features,
    Head,
    available_heads,
    build_head,
    build_heads,
    register_head,
    resolve_heads,
)
from mlff_calc.heads.denoising import DenoisingHead
from mlff_calc.heads.direct_forces import DirectForcesHead
from mlff_calc.heads.displacement import DisplacementHead
from mlff_calc.heads.energy import EnergyHead
from mlff_calc.heads.fields import FieldsHead
from mlff_calc.heads.properties import DistributionHead, ScalarHead
from mlff_calc.heads.repulsion import ZBLRepulsion
from mlff_calc.heads.uncertainty import EnergyErrorHead, ForceErrorHead

__all__ = [
    "DenoisingHead",
    "DirectForcesHead",
    "DisplacementHead",
    "DistributionHead",
    "EnergyErrorHead",
    "EnergyHead",
    "Features",
    "FieldsHead",
    "ForceErrorHead",
    "Head",
    "ScalarHead",
    "ZBLRepulsion",
    "available_heads",
    "build_head",
    "build_heads",
    "register_head",
    "resolve_heads",
]
