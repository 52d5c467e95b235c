"""Loading a learned functional from its folder."""

from __future__ import annotations

from pathlib import Path

from mlff_calc.electronic.functional.build import build_functional
from mlff_calc.electronic.functional.model import FunctionalNetwork
from mlff_calc.networks.load import load_network


def load_functional(name_or_path: str | Path) -> FunctionalNetwork:
    """Load a functional by the name it ships under or the path of its folder, in float64 and evaluation mode.

    Raises:
        PotentialFileError: It is of another kind, is truncated or newer than this package, or was changed after it was
            written.
    """
    return load_network(name_or_path, FunctionalNetwork.kind, build_functional)
