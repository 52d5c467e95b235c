"""A potential from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

from mlff_calc.errors import PotentialFileError, RecipeError
from mlff_calc.potential.catalogue import find_potential
from mlff_calc.potential.files import WEIGHTS, checksum, read_header

if TYPE_CHECKING:
    from mlff_calc.potential.model import Potential


def load_potential(name_or_path: str | Path) -> Potential:
    """Load a potential by the name it ships under or by the path of its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: not a potential, truncated, changed after it was written, or newer than this package.
    """
    from mlff_calc.potential.build import build_potential

    folder = find_potential(name_or_path)
    header = read_header(folder)
    if header.get("kind", "potential") != "potential":
        raise PotentialFileError(f"{folder} holds a {header['kind']}, not a potential; use load_{header['kind']}")
    with safe_open(folder / WEIGHTS, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if checksum(tensors, header) != header["sha256"]:
        msg = f"{folder / WEIGHTS} does not match its checksum; it was changed after it was written: copy or train it again"
        raise PotentialFileError(msg)
    try:
        potential = build_potential(header["config"], seed=0)
        potential.load_state_dict(tensors)
    except (RecipeError, RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        msg = f"{folder / WEIGHTS} does not fit the network its header describes: {error}"
        raise PotentialFileError(msg) from error
    return potential.eval()
