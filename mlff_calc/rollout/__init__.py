"""Rollouts: positions and velocities of one molecule at any later times, from one state, with error bars."""

from mlff_calc.rollout.build import build_rollout
from mlff_calc.rollout.load import load_rollout
from mlff_calc.rollout.model import Rollout, rollout_graph
from mlff_calc.rollout.trajectory import Trajectory, trajectories

__all__ = ["Rollout", "Trajectory", "build_rollout", "load_rollout", "rollout_graph", "trajectories"]
