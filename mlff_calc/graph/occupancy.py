"""Sites that are shared by several elements or partly empty.

ASE keeps a file's occupancies apart from the atoms, and the atoms are those of a full crystal: a site with 60 % silicon
and 40 % germanium becomes one silicon atom.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

import numpy as np
from ase import Atoms

from mlff_calc.errors import StructureError

ROUNDING = 1e-3
"""Deviation from 1 up to which an occupancy counts as full, since files round. Raising it accepts emptier sites."""
_CURE = (
    "A potential needs one element on every site: make an ordered structure (pymatgen's "
    "OrderDisorderedStructureTransformation, or choose elements by hand)"
)


def check_occupancy(atoms: Atoms, place: str = "") -> None:
    """Refuse structures with sites that are shared by elements or partly empty.

    Args:
        atoms: structure. Checked are `info["occupancy"]`, by kinds of sites, as written by ASE's CIF reader (the kind
            of each atom is in the array `spacegroup_kinds`, which supercells keep), and a per-atom array `occupancy` as
            of PDB files, where 0 means unknown.
        place: file and frame, for the message.

    Raises:
        StructureError: a site is partly occupied; the message names the site and the cure. Kinds without atoms are
            ignored.
    """
    try:
        if "occupancy" in atoms.info:
            _check_kinds(atoms, atoms.info["occupancy"])
        if "occupancy" in atoms.arrays:
            _check_column(atoms, atoms.arrays["occupancy"])
    except StructureError as error:
        if place:
            raise StructureError(f"{place}: {error}") from None
        raise


def _check_kinds(atoms: Atoms, occupancy: object) -> None:
    if not isinstance(occupancy, Mapping):
        return  # an entry of another program, with another meaning
    partial = {str(kind): species for kind, species in occupancy.items() if not _is_full(species)}
    if not partial or len(atoms) == 0:
        return
    cure = f"{_CURE}; where that is done already, del atoms.info['occupancy']"
    kinds = atoms.arrays.get("spacegroup_kinds")
    if kinds is None:
        kind, species = next(iter(partial.items()))
        raise StructureError(f"info['occupancy'] has a partly occupied site: {_text(species)} on kind {kind}. {cure}")
    shared = [index for index, kind in enumerate(kinds) if str(kind) in partial]
    if shared:
        species = partial[str(kinds[shared[0]])]
        raise StructureError(
            f"atom {shared[0]} ({atoms.symbols[shared[0]]}) is on a site that is shared or partly empty: {_text(species)} "
            f"by info['occupancy'] ({len(shared)} such atoms of {len(atoms)}). {cure}"
        )


def _check_column(atoms: Atoms, column: np.ndarray) -> None:
    if column.shape != (len(atoms),) or column.dtype.kind not in "fiu":
        return
    shared = np.flatnonzero((column > 0.0) & (column < 1.0 - ROUNDING))
    if len(shared):
        first = int(shared[0])
        raise StructureError(
            f"atom {first} ({atoms.symbols[first]}) has an occupancy of {column[first]:g} ({len(shared)} such atoms of "
            f"{len(atoms)}). {_CURE}; where that is done already, del atoms.arrays['occupancy']"
        )


def _is_full(species: object) -> bool:
    """Whether a mapping of elements to occupancies describes a site fully occupied by one element."""
    if not isinstance(species, Mapping):
        return isinstance(species, Real) and float(species) >= 1.0 - ROUNDING
    present = [float(value) for value in species.values() if float(value) > ROUNDING]
    return len(present) == 1 and present[0] >= 1.0 - ROUNDING


def _text(species: object) -> str:
    if isinstance(species, Mapping):
        return " ".join(f"{element} {float(value):g}" for element, value in species.items())
    return f"{species}"
