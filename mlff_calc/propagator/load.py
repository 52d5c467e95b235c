"""Loading a propagator from its folder."""

from __future__ import annotations

from pathlib import Path

from mlff_calc.networks.load import load_network
from mlff_calc.propagator.build import build_propagator
from mlff_calc.propagator.model import Propagator


def load_propagator(name_or_path: str | Path) -> Propagator:
    """Load a propagator by the name it ships under or by the path of its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: It is not a propagator, is truncated or newer than this package, or was changed after it was
            written.
    """
    return load_network(name_or_path, Propagator.kind, build_propagator)
