"""Named arrays as bytes, in the safetensors format, which holds numbers only and runs nothing when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mlff_calc.errors import DatasetError


def pack(values: Mapping[str, Any]) -> bytes:
    """Pack arrays and numbers by name."""
    return save({name: np.array(value, order="C") for name, value in values.items()})


def unpack(content: bytes, place: str) -> dict[str, NDArray[Any]]:
    """Unpack arrays; numbers are arrays of no axes.

    Args:
        content: What `pack` gave.
        place: Where it stands, for messages.

    Raises:
        DatasetError: It was not packed by `pack`.
    """
    try:
        return load(content)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"{place} cannot be read ({error}); restore the file from a copy") from error
