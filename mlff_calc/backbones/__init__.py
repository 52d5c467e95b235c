"""Backbones: graph to node features. Importing this package registers all of them."""

from mlff_calc.backbones.base import (
    Backbone,
    available_backbones,
    build_backbone,
    is_fixed_point,
    register_backbone,
    resolve_backbone,
)
from mlff_calc.backbones.deq import Deq
from mlff_calc.backbones.equiformer import Equiformer

__all__ = [
    "Backbone",
    "Deq",
    "Equiformer",
    "available_backbones",
    "build_backbone",
    "is_fixed_point",
    "register_backbone",
    "resolve_backbone",
]
