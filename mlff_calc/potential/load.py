"""Potentials by name or folder; imports no torch before one is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlff_calc.networks.catalogue import NetworkEntry, find_network, list_networks

if TYPE_CHECKING:
    from mlff_calc.potential.model import Potential

KIND = "potential"


def list_potentials() -> list[NetworkEntry]:
    """The potentials that ship, by name."""
    return [entry for entry in list_networks() if entry.kind == KIND]


def find_potential(name_or_path: str | Path) -> Path:
    """Folder of a potential given by path or by the name it ships under.

    Raises:
        PotentialFileError: Neither, or a network of another kind; see `find_network`.
    """
    return find_network(name_or_path, KIND)


def load_potential(name_or_path: str | Path) -> Potential:
    """Load a potential by the name it ships under or by the path of its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: Not a potential, truncated, changed after it was written, or newer than this package.
    """
    from mlff_calc.networks.load import load_network
    from mlff_calc.potential.build import build_potential

    return load_network(name_or_path, KIND, build_potential)
