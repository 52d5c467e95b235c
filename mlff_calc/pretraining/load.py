"""Loading a pretrained network from its folder."""

from __future__ import annotations

from pathlib import Path

from mlff_calc.networks.load import load_network
from mlff_calc.pretraining.build import build_pretraining
from mlff_calc.pretraining.model import PretrainingNetwork


def load_pretraining(name_or_path: str | Path) -> PretrainingNetwork:
    """Load a pretrained network by the path of its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: It is not a pretrained network, is truncated or newer than this package, or was changed after
            it was written.
    """
    return load_network(name_or_path, PretrainingNetwork.kind, build_pretraining)
