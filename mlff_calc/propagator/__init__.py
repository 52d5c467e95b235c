"""Propagators: a backbone with a displacement head, which maps positions and velocities to those of a later time."""

from mlff_calc.propagator.build import build_propagator
from mlff_calc.propagator.graph import motion_graph
from mlff_calc.propagator.load import load_propagator
from mlff_calc.propagator.model import Propagator
from mlff_calc.propagator.scales import average_neighbors, longest_edge, scales_of

__all__ = [
    "Propagator",
    "average_neighbors",
    "build_propagator",
    "load_propagator",
    "longest_edge",
    "motion_graph",
    "scales_of",
]
