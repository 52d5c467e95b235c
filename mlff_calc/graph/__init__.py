"""Atoms to tensors: the key registry, neighbour lists with a skin, batching."""

from __future__ import annotations

from mlff_calc.graph.batch import collate, split, to_device
from mlff_calc.graph.from_atoms import graph_from_arrays, graph_from_atoms
from mlff_calc.graph.keys import KEYS, LEVELS, Graph, Key, declare, register_key, register_level, validate_graph
from mlff_calc.graph.neighbors import NeighborPairs, neighbor_pairs
from mlff_calc.graph.verlet import NeighborList

__all__ = [
    "KEYS",
    "LEVELS",
    "Graph",
    "Key",
    "NeighborList",
    "NeighborPairs",
    "collate",
    "declare",
    "graph_from_arrays",
    "graph_from_atoms",
    "neighbor_pairs",
    "register_key",
    "register_level",
    "split",
    "to_device",
    "validate_graph",
]
