"""Folders of trained networks of every kind: header and tensors, saving, loading and listing.

`Network` (`networks.base`) and `load_network` (`networks.load`) need torch, which listing should not wait for.
"""

from mlff_calc.networks.catalogue import NetworkEntry, find_network, is_exported, list_networks, shipped_folder
from mlff_calc.networks.files import WEIGHTS, kind_of, read_header, trained_reading

__all__ = [
    "WEIGHTS",
    "NetworkEntry",
    "find_network",
    "is_exported",
    "kind_of",
    "list_networks",
    "read_header",
    "shipped_folder",
    "trained_reading",
]
