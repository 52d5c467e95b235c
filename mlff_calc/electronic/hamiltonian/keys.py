"""Keys of matrices in graphs, by padded blocks of atoms and of pairs (the edges), in Hartree.

Entries of orbitals that an element does not have are zero in inputs and mean nothing in outputs.
"""

from __future__ import annotations

from typing import Final

from mlff_calc.graph.keys import DOUBLE, declare

MATRICES: Final = {
    "fock": ("Hartree", "Fock matrix less its reference"),
    "initial": ("Hartree", "Fock matrix of the initial density"),
    "overlap": ("", "overlap matrix"),
    "state": ("", "state of a flow, in units of the scales of `fock`"),
}
"""Matrices that graphs may hold, with unit and description."""


def atoms_of(matrix: str) -> str:
    """Key of the blocks of atoms of a matrix."""
    return f"{matrix}_atoms"


def pairs_of(matrix: str) -> str:
    """Key of the blocks of pairs of a matrix."""
    return f"{matrix}_pairs"


for _name, (_unit, _doc) in MATRICES.items():
    declare(atoms_of(_name), "atom", (None, None), None, _unit, f"{_doc}, blocks of atoms")
    declare(pairs_of(_name), "edge", (None, None), None, _unit, f"{_doc}, blocks of pairs")
FOCK_ATOMS, FOCK_PAIRS = atoms_of("fock"), pairs_of("fock")
FLOW_TIME: Final = declare("flow_time", "system", (), DOUBLE, "", "time of a flow, from 0 (noise) to 1 (data)")
