"""Structures with one bond that is too short or too long, and pairs of molecules pushed together or pulled apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlff_calc.datasets.molecules import rdkit_chem
from mlff_calc.graph.rmsd import FloatArray

if TYPE_CHECKING:
    from rdkit.Chem import Mol

BONDS = (0.8, 1.3)
"""Smallest and largest factor of the length of a bond."""
APART = (-0.4, 3.0)
"""Smallest and largest change of the distance of two molecules, Angstrom."""


def with_strained_bonds(mol: Mol, minimum: FloatArray, n: int, random: np.random.Generator) -> FloatArray:
    """Draw structures in each of which one part of the molecule is moved, as a whole, along a bond that is in no ring.

    Of several molecules, one is moved along the line between its atom and that of another one that are closest.

    Args:
        mol: RDKit's molecule with all hydrogens.
        minimum: Positions [n_atoms, 3], Angstrom.
        n: Number of structures.
        random: Generator.

    Returns:
        Positions [n, n_atoms, 3], Angstrom; [0, n_atoms, 3] where all bonds are in rings, or there is none.
    """
    pieces = rdkit_chem().GetMolFrags(mol)
    sides = _pieces(minimum, pieces) if len(pieces) > 1 else _sides(mol)
    if not sides:
        return np.zeros((0, *minimum.shape))
    found = np.repeat(minimum[None], n, axis=0)
    for positions in found:
        i, j, moved = sides[int(random.integers(len(sides)))]
        along = minimum[j] - minimum[i]
        length = float(np.linalg.norm(along))
        change = random.uniform(*APART) if len(pieces) > 1 else length * (random.uniform(*BONDS) - 1.0)
        positions[moved] += change * along / length
    return found


def _sides(mol: Mol) -> list[tuple[int, int, list[int]]]:
    """Ends i and j of bonds in no ring, with the atoms on the side of j."""
    found = []
    for bond in mol.GetBonds():
        if not bond.IsInRing():
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            found.append((i, j, _behind(mol, i, j)))
    return found


def _behind(mol: Mol, i: int, j: int) -> list[int]:
    """Atoms that hang on j, without the bond to i."""
    seen, left = {i, j}, [j]
    while left:
        new = [one.GetIdx() for one in mol.GetAtomWithIdx(left.pop()).GetNeighbors() if one.GetIdx() not in seen]
        seen |= set(new)
        left += new
    return sorted(seen - {i})


def _pieces(positions: FloatArray, pieces: Sequence[Sequence[int]]) -> list[tuple[int, int, list[int]]]:
    """Each molecule but the first, behind the pair of its atom and that of another one that are closest."""
    found = []
    for piece in pieces[1:]:
        rest = [atom for other in pieces if other is not piece for atom in other]
        found.append((*_closest(positions, rest, piece), list(piece)))
    return found


def _closest(positions: FloatArray, one: Sequence[int], other: Sequence[int]) -> tuple[int, int]:
    """Atoms of two groups that are closest to each other."""
    away = np.linalg.norm(positions[list(one), None] - positions[None, list(other)], axis=-1)
    i, j = np.unravel_index(int(away.argmin()), away.shape)
    return one[int(i)], other[int(j)]
