"""Score models: gradients of the log-density of noisy structures, from which new structures are drawn."""

from mlff_calc.score.build import build_score_model
from mlff_calc.score.graph import Topology
from mlff_calc.score.load import load_score_model
from mlff_calc.score.model import ScoreModel
from mlff_calc.score.schedule import Schedule
from mlff_calc.score.targets import Target

__all__ = ["Schedule", "ScoreModel", "Target", "Topology", "build_score_model", "load_score_model"]
