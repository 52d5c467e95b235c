"""Loading a score model from its folder."""

from __future__ import annotations

from pathlib import Path

from mlff_calc.networks.load import load_network
from mlff_calc.score.build import build_score_model
from mlff_calc.score.model import ScoreModel


def load_score_model(name_or_path: str | Path) -> ScoreModel:
    """Load a score model by the path of its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: It is not a score model, is truncated or newer than this package, or was changed after it was
            written.
    """
    return load_network(name_or_path, ScoreModel.kind, build_score_model)
