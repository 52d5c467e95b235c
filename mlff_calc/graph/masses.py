"""Masses that a file gives under a name which ASE does not read.

ASE takes masses only from the column `masses`. With deuterium given under `mass`, it would move as hydrogen.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from mlff_calc.errors import StructureError

NAMES = ("mass", "masses", "atomic_mass", "atomic_masses", "atom_mass", "atom_masses")
"""Column names in lower case that count as masses; `masses` itself is ASE's."""
SAME = 0.01
"""Largest relative difference from the natural mass that is no isotope. Raising it hides isotopes of heavy elements."""
LEAST, MOST = 0.05, 20.0
"""Range of plausible masses relative to the element's own (muonium has 0.11, 4H has 4); others are in another unit."""


def with_named_masses(atoms: Atoms) -> Atoms:
    """Return the atoms with the masses of a column such as `mass`.

    Args:
        atoms: structure, not changed.

    Returns:
            The same object where there is no such column or ASE already has the same masses; otherwise a copy (without
            calculator) with the column's masses (amu).

    Raises:
        StructureError: see `named_masses`.
    """
    masses = named_masses(atoms)
    if masses is None:
        return atoms
    heavy = atoms.copy()
    heavy.set_masses(masses)
    return heavy


def refuse_named_masses(atoms: Atoms) -> None:
    """Refuse atoms whose masses ASE's dynamics would ignore.

    Raises:
        StructureError: there are such masses; the message names the column and the cure.
    """
    if named_masses(atoms) is not None:
        name = _columns(atoms)[0]
        raise StructureError(
            f"the atoms have an array {name!r} with masses that ASE does not use; call "
            f"atoms.set_masses(atoms.arrays[{name!r}]) (amu), or del atoms.arrays[{name!r}]"
        )


def named_masses(atoms: Atoms) -> np.ndarray | None:
    """Return the masses [n_atoms] (amu) of a column that ASE does not read; None where they do not differ from ASE's.

    Raises:
        StructureError: a column lacks one positive mass in amu per atom, or two columns disagree.
    """
    names = _columns(atoms)
    if not names or len(atoms) == 0:
        return None
    found = [_checked(atoms, name) for name in names]
    for name, other in zip(names[1:], found[1:], strict=True):
        if not np.allclose(other, found[0], rtol=1e-3, atol=0.0):
            raise StructureError(f"columns {names[0]!r} and {name!r} give different masses; keep one of them")
    if np.allclose(found[0], atoms.get_masses(), rtol=1e-3, atol=0.0):
        return None
    if atoms.has("masses"):
        raise StructureError(f"columns 'masses' and {names[0]!r} give different masses; keep one of them")
    return found[0]


def _columns(atoms: Atoms) -> list[str]:
    return [name for name in atoms.arrays if name != "masses" and name.lower() in NAMES]


def _checked(atoms: Atoms, name: str) -> np.ndarray:
    column = atoms.arrays[name]
    if column.shape != (len(atoms),) or column.dtype.kind not in "fiu":
        raise StructureError(
            f"column {name!r} is of shape {list(column.shape)} and type {column.dtype}, not one mass for each atom (amu); "
            "correct or remove it"
        )
    ratio = column / atomic_masses[atoms.numbers]
    bad = np.flatnonzero(~((ratio >= LEAST) & (ratio <= MOST)))
    if len(bad):
        first = int(bad[0])
        raise StructureError(
            f"column {name!r} gives atom {first} ({atoms.symbols[first]}) a mass of {column[first]:g}, which is no mass in "
            f"amu ({atomic_masses[atoms.numbers[first]]:.4g} for this element); convert, correct or remove the column"
        )
    return column.astype(np.float64)


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
