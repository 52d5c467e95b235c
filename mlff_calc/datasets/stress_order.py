"""The order in which a file lists the six components of a symmetric tensor.

Programs differ: ASE writes xx yy zz yz xz xy, VASP prints xx yy zz xy yz zx, other codes write xx yy zz xy xz yz. The
numbers do not show which order is used, and a wrong one silently swaps shear stresses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

VOIGT = "xx yy zz yz xz xy"
VASP = "xx yy zz xy yz zx"
COMPONENTS: tuple[str, ...] = tuple(VOIGT.split())


def parsed_order(order: str) -> tuple[tuple[int, int], ...]:
    """Parse an order of six components to their places in the 3 x 3 tensor.

    Args:
        order: Six names such as ``xx yy zz xy yz zx``, separated by spaces or commas; ``zx`` is ``xz``.

    Raises:
        DatasetError: The names are not the six components, each once; the message names the fault.
    """
    places = []
    for name in order.lower().replace(",", " ").split():
        if len(name) != 2 or not set(name) <= set("xyz"):
            raise DatasetError(f"stress_order is '{order}', where '{name}' is not a component; write it like '{VASP}'")
        row, column = sorted("xyz".index(axis) for axis in name)
        places.append((row, column))
    missing = [name for name in COMPONENTS if ("xyz".index(name[0]), "xyz".index(name[1])) not in places]
    if missing or len(places) != len(COMPONENTS):
        fault = f"lacks {' '.join(missing)}" if missing else f"has {len(places)} components"
        raise DatasetError(f"stress_order is '{order}', which {fault}; name all six, each once, like '{VASP}'")
    return tuple(places)


def full_tensor(six: NDArray[np.float64], order: str) -> NDArray[np.float64]:
    """Build the symmetric tensor [3, 3] from six components [6] in the given order."""
    full = np.zeros((3, 3))
    for value, (row, column) in zip(six, parsed_order(order), strict=True):
        full[row, column] = full[column, row] = value
    return full
