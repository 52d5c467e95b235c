"""Trained networks of every kind as folders: header and tensors, saving, loading, what ships and what stands in a folder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlff_calc.networks.catalogue import NetworkEntry, find_network, list_networks, shipped_folder
from mlff_calc.networks.files import WEIGHTS, kind_of, read_header

if TYPE_CHECKING:
    from mlff_calc.networks.base import Network
    from mlff_calc.networks.load import load_network

_LAZY = {"Network": "mlff_calc.networks.base", "load_network": "mlff_calc.networks.load"}

__all__ = [
    "WEIGHTS",
    "Network",
    "NetworkEntry",
    "find_network",
    "kind_of",
    "list_networks",
    "load_network",
    "read_header",
    "shipped_folder",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import what needs torch on first use: listing should not wait for it."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    msg = f"module 'mlff_calc.networks' has no attribute {name!r}"
    raise AttributeError(msg)
