"""A potential from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlff_calc.errors import PotentialFileError
from mlff_calc.potential.catalogue import find_potential
from mlff_calc.potential.files import NO_NETWORK, WEIGHTS, load_tensors, read_weights

if TYPE_CHECKING:
    from mlff_calc.potential.model import Potential


def load_potential(name_or_path: str | Path) -> Potential:
    """Load a potential by the name it ships under or by the path of its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: not a potential, truncated, changed after it was written, or newer than this package.
    """
    from mlff_calc.potential.build import build_potential
    from mlff_calc.potential.room import Room

    folder = find_potential(name_or_path)
    header, tensors = read_weights(folder)
    try:
        with Room(tensors):
            potential = build_potential(header["config"], seed=0)
        load_tensors(potential, tensors)
    except NO_NETWORK as error:
        msg = f"{folder / WEIGHTS} does not fit the network its header describes: {error}"
        raise PotentialFileError(msg) from error
    potential.domain = header.get("domain")
    return potential.eval()
