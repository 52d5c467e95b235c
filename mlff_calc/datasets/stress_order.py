"""The order in which a file writes the six components of a symmetric tensor.

Programs differ: ASE writes xx yy zz yz xz xy, VASP prints xx yy zz xy yz zx, other codes xx yy zz xy xz yz. The numbers do
not tell which order it is, and a wrong one mixes up shear stresses without any other sign.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

VOIGT = "xx yy zz yz xz xy"
VASP = "xx yy zz xy yz zx"
COMPONENTS: tuple[str, ...] = tuple(VOIGT.split())


def parsed_order(order: str) -> tuple[tuple[int, int], ...]:
    """Places in the 3 x 3 tensor of six components, in their order.

    Args:
        order: Six names such as ``xx yy zz xy yz zx``, with spaces or commas between; ``zx`` is ``xz``.

    Raises:
        DatasetError: The names are not the six components, each once; says which is missing or named twice.
    """
    places = []
    for name in order.lower().replace(",", " ").split():
        if len(name) != 2 or not set(name) <= set("xyz"):
            raise DatasetError(f"stress_order is '{order}', where '{name}' is no component; write it like '{VASP}'")
        row, column = sorted("xyz".index(axis) for axis in name)
        places.append((row, column))
    missing = [name for name in COMPONENTS if ("xyz".index(name[0]), "xyz".index(name[1])) not in places]
    if missing or len(places) != len(COMPONENTS):
        fault = f"lacks {' '.join(missing)}" if missing else f"has {len(places)} components"
        raise DatasetError(f"stress_order is '{order}', which {fault}; name all six, each once, like '{VASP}'")
    return tuple(places)


def full_tensor(six: NDArray[np.float64], order: str) -> NDArray[np.float64]:
    """The symmetric tensor [3, 3] of six components [6] in the given order."""
    full = np.zeros((3, 3))
    for value, (row, column) in zip(six, parsed_order(order), strict=True):
        full[row, column] = full[column, row] = value
    return full
