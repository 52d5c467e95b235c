"""Total charges of structures, and isotopes: what a network of elements and positions does not see."""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from mlff_calc.errors import StructureError
from mlff_calc.graph.masses import named_masses

SAME = 0.01
"""Largest relative difference from the natural mass that is no isotope. Raising it hides isotopes of heavy elements."""


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


def isotope_of(atoms: Atoms) -> int | None:
    """Return the number of the first atom whose mass is not that of the natural element; None where there is none.

    Raises:
        StructureError: See `named_masses`.
    """
    masses = named_masses(atoms)
    masses = atoms.get_masses() if masses is None else masses
    natural = atomic_masses[atoms.numbers]
    found = np.flatnonzero(np.abs(masses / natural - 1.0) > SAME)
    return int(found[0]) if len(found) else None
