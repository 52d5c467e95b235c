"""A propagator from its folder."""

from __future__ import annotations

from pathlib import Path

from mlff_calc.errors import PotentialFileError
from mlff_calc.potential.files import NO_NETWORK, WEIGHTS, load_tensors, read_weights
from mlff_calc.potential.room import Room
from mlff_calc.propagator.build import build_propagator
from mlff_calc.propagator.files import KIND
from mlff_calc.propagator.model import Propagator


def load_propagator(folder: str | Path) -> Propagator:
    """Load a propagator from its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: not a propagator, truncated, changed after it was written, or newer than this package.
    """
    path = Path(folder)
    path = path.parent if path.name == WEIGHTS else path
    if not (path / WEIGHTS).is_file():
        raise PotentialFileError(f"{folder} is not a propagator: a propagator is a folder that holds {WEIGHTS}")
    header, tensors = read_weights(path, KIND)
    try:
        with Room(tensors):
            propagator = build_propagator(header["config"], seed=0)
        load_tensors(propagator, tensors)
    except NO_NETWORK as error:
        raise PotentialFileError(f"{path / WEIGHTS} does not fit the network its header describes: {error}") from error
    return propagator.eval()
