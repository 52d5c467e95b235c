"""Backbones: graph to node features. Importing this package registers all of them."""

from mlff_calc.backbones.base import (
    Backbone,
    available_backbones,
    build_backbone,
    is_fixed_point,
    register_backbone,
    resolve_backbone,
)
from mlff_calc.backbones.cg_egnn import CgEgnn
from mlff_calc.backbones.deq import Deq
from mlff_calc.backbones.equiformer import Equiformer
from mlff_calc.backbones.hegnn import Hegnn

__all__ = [
    "Backbone",
    "CgEgnn",
    "Deq",
    "Equiformer",
    "Hegnn",
    "available_backbones",
    "build_backbone",
    "is_fixed_point",
    "register_backbone",
    "resolve_backbone",
]
