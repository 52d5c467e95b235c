"""Pretraining of backbones on structures without labels, or with those of a cheap method, to fine-tune from."""

from mlff_calc.pretraining.build import build_pretraining
from mlff_calc.pretraining.diagnostics import Steepness, probe_score, steepness
from mlff_calc.pretraining.load import load_pretraining
from mlff_calc.pretraining.model import PretrainingNetwork
from mlff_calc.pretraining.objectives import OBJECTIVES

__all__ = [
    "OBJECTIVES",
    "PretrainingNetwork",
    "Steepness",
    "build_pretraining",
    "load_pretraining",
    "probe_score",
    "steepness",
]
