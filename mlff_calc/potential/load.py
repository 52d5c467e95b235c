"""Finding and loading potentials. Torch is imported only when one is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlff_calc.networks.catalogue import NetworkEntry, find_network, list_networks

if TYPE_CHECKING:
    from mlff_calc.potential.model import Potential

KIND = "potential"


def list_potentials() -> list[NetworkEntry]:
    """List the shipped potentials, sorted by name."""
    return [entry for entry in list_networks() if entry.kind == KIND]


def find_potential(name_or_path: str | Path) -> Path:
    """Find the folder of a potential by its path or by the name it ships under.

    Raises:
        PotentialFileError: There is no such potential, or the network is of another kind; see `find_network`.
    """
    return find_network(name_or_path, KIND)


def load_potential(name_or_path: str | Path) -> Potential:
    """Load a potential by the name it ships under or by the path of its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: It is not a potential, is truncated or newer than this package, or was changed after it was
            written.
    """
    from mlff_calc.networks.load import load_network
    from mlff_calc.potential.build import build_potential

    return load_network(name_or_path, KIND, build_potential)
