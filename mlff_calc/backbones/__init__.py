"""Backbones: graph to node features. Importing this package registers all of them."""

from mlff_calc.backbones.base import Backbone, available_backbones, build_backbone, register_backbone, resolve_backbone
from mlff_calc.backbones.equiformer import Equiformer

__all__ = ["Backbone", "Equiformer", "available_backbones", "build_backbone", "register_backbone", "resolve_backbone"]
