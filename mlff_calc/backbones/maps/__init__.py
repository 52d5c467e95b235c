"""Maps of fixed points: which layers of a backbone `deq` repeats, and how."""

from __future__ import annotations

from mlff_calc.backbones.maps.base import MAPS, FixedPointMap, LinearMap, map_class, register_map
from mlff_calc.backbones.maps.cg_egnn import CgEgnnMap
from mlff_calc.backbones.maps.equiformer import EquiformerMap
from mlff_calc.backbones.maps.hegnn import HegnnMap

__all__ = [
    "MAPS", "CgEgnnMap", "EquiformerMap", "FixedPointMap", "HegnnMap", "LinearMap", "map_class", "register_map",
]  # fmt: skip
