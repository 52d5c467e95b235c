"""Total charges of structures."""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms

from mlff_calc.errors import StructureError


def charge_of(atoms: Atoms) -> int:
    """Return the total charge of a structure, `info['charge']` or `info['total_charge']`, 0 where there is none.

    Raises:
        StructureError: The charge is not a whole number, or the two differ.
    """
    given = {name: atoms.info[name] for name in ("charge", "total_charge") if atoms.info.get(name) is not None}
    found = set()
    for name, value in given.items():
        number = float(value) if np.ndim(value) == 0 and isinstance(value, int | float | np.number) else math.nan
        if not number.is_integer():
            raise StructureError(f"info['{name}'] is {value!r}; a charge is a whole number of e")
        found.add(int(number))
    if len(found) > 1:
        raise StructureError(f"info['charge'] and info['total_charge'] are {given}; keep one of them")
    return found.pop() if found else 0
