"""Potentials: a backbone with heads for energy and forces; building, evaluating, saving, loading and listing them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlff_calc.networks.catalogue import NetworkEntry as PotentialEntry
from mlff_calc.potential.load import find_potential, list_potentials, load_potential

if TYPE_CHECKING:
    from mlff_calc.potential.build import build_potential
    from mlff_calc.potential.evaluate import evaluate_atoms
    from mlff_calc.potential.model import Potential

_LAZY = {
    "Potential": "mlff_calc.potential.model",
    "build_potential": "mlff_calc.potential.build",
    "evaluate_atoms": "mlff_calc.potential.evaluate",
}

__all__ = [
    "Potential",
    "PotentialEntry",
    "build_potential",
    "evaluate_atoms",
    "find_potential",
    "list_potentials",
    "load_potential",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import names that need torch on first use, so that listing potentials does not wait for it."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    msg = f"module 'mlff_calc.potential' has no attribute {name!r}"
    raise AttributeError(msg)
