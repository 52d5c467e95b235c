"""Loading a rollout from its folder."""

from __future__ import annotations

from pathlib import Path

from mlff_calc.networks.load import load_network
from mlff_calc.rollout.build import build_rollout
from mlff_calc.rollout.model import Rollout


def load_rollout(name_or_path: str | Path) -> Rollout:
    """Load a rollout by the name it ships under or by the path of its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: It is not a rollout, is truncated or newer than this package, or was changed after it was
            written.
    """
    return load_network(name_or_path, Rollout.kind, build_rollout)
