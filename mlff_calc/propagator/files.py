"""Folders of propagators: the format of potentials/, with `kind: propagator` in the header."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from mlff_calc.errors import PotentialFileError, RecipeError
from mlff_calc.potential.files import WEIGHTS, Savable, checksum, read_header, save_potential

if TYPE_CHECKING:
    from mlff_calc.propagator.model import Propagator

KIND = "propagator"
UNITS = {"length": "of the data", "time": "of the data"}


def save_propagator(propagator: Savable, folder: str | Path, **options: Any) -> Path:  # noqa: ANN401
    """Write a propagator to `folder`; see `save_potential` for the options and errors."""
    return save_potential(propagator, folder, kind=KIND, units=UNITS, **options)


def load_propagator(folder: str | Path) -> Propagator:
    """Load a propagator from its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: not a propagator, truncated, changed after it was written, or newer than this package.
    """
    from mlff_calc.propagator.build import build_propagator

    path = Path(folder)
    path = path.parent if path.name == WEIGHTS else path
    if not (path / WEIGHTS).is_file():
        raise PotentialFileError(f"{folder} is not a propagator: a propagator is a folder that holds {WEIGHTS}")
    header = read_header(path)
    if header.get("kind", "potential") != KIND:
        raise PotentialFileError(
            f"{path} holds a {header.get('kind', 'potential')}, not a propagator; use load_potential"
        )
    with safe_open(path / WEIGHTS, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if checksum(tensors, header) != header["sha256"]:
        raise PotentialFileError(
            f"{path / WEIGHTS} does not match its checksum; it was changed after it was written: copy or train it again"
        )
    try:
        propagator = build_propagator(header["config"], seed=0)
        propagator.load_state_dict(tensors)
    except (RecipeError, RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise PotentialFileError(f"{path / WEIGHTS} does not fit the network its header describes: {error}") from error
    return propagator.eval()


def is_propagator(folder: str | Path) -> bool:
    """Whether a folder holds a propagator.

    Raises:
        PotentialFileError: the folder holds weights whose header cannot be read.
    """
    path = Path(folder)
    path = path.parent if path.name == WEIGHTS else path
    return (path / WEIGHTS).is_file() and read_header(path).get("kind", "potential") == KIND
