"""Loading a property network from its folder."""

from __future__ import annotations

from pathlib import Path

from mlff_calc.networks.load import load_network
from mlff_calc.properties.build import build_property
from mlff_calc.properties.model import PropertyNetwork


def load_property(name_or_path: str | Path) -> PropertyNetwork:
    """Load a property network by the path of its folder, in float32 and evaluation mode.

    `load_property(folder).predict(atoms)` gives mean, standard deviation and quantiles.

    Raises:
        PotentialFileError: It is not a property network, is truncated or newer than this package, or was changed after it
            was written.
    """
    return load_network(name_or_path, PropertyNetwork.kind, build_property)
