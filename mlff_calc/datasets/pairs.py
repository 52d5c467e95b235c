"""Pairs of molecules: which of them, and starting positions with both in contact."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from ase.data import vdw_radii
from scipy.spatial.transform import Rotation

from mlff_calc.datasets.embed import embed
from mlff_calc.datasets.molecules import Molecule, rdkit_chem
from mlff_calc.datasets.small_molecules import fits
from mlff_calc.errors import OptionError
from mlff_calc.graph.rmsd import FloatArray

SMALL = (
    "O", "N", "C", "CO", "CCO", "CN", "CNC", "CN(C)C", "C=O", "CC=O", "CC(C)=O", "O=CO", "CC(=O)O", "COC", "COC=O",
    "NC=O", "CNC=O", "CC(N)=O", "NC(N)=O", "C#N", "CC#N", "O=C=O", "C#C", "C=C", "CC", "c1ccccc1", "c1ccncc1", "c1c[nH]cn1",
    "c1cc[nH]c1", "c1ccoc1", "Oc1ccccc1", "Nc1ccccc1", "C[N+](=O)[O-]", "S", "CS", "CSC", "CS(C)=O", "Cl", "CCl", "ClCCl",
    "F", "CF", "FC(F)F", "c1ccsc1", "P", "CP", "COP(=O)(OC)OC", "OO", "NN", "CC#C", "C1CC1", "[H][H]",
)  # fmt: skip
"""Molecules that make up pairs."""
GAP = (0.75, 1.1)
"""Smallest and largest closest distance of a start, in units of the sum of van der Waals radii."""


def small_molecules(elements: Collection[str]) -> list[str]:
    """Those of `SMALL` that are made of some elements."""
    chem = rdkit_chem()
    return [text for text in SMALL if fits(chem.MolFromSmiles(text), set(elements), 1000)]


def drawn_pairs(n: int, molecules: Sequence[str], seed: int = 0) -> list[str]:
    """Draw pairs of molecules, of one molecule with itself among them, each once, as SMILES with a dot.

    Args:
        n: Number of pairs.
        molecules: SMILES.
        seed: Seed of the draw.

    Raises:
        OptionError: There are not as many.
    """
    every = [f"{one}.{other}" for k, one in enumerate(molecules) for other in molecules[k:]]
    if n > len(every):
        raise OptionError(f"{n} pairs are asked for, and {len(molecules)} molecules have {len(every)}; give fewer")
    return random.Random(seed).sample(every, n)


def in_contact(molecule: Molecule, n: int, seed: int) -> FloatArray:
    """Starting positions [n, n_atoms, 3] (Angstrom) of several molecules, each at random on the surface of those before it.

    Args:
        molecule: Several molecules in one.
        n: Number of starts.
        seed: Seed.

    Raises:
        MoleculeError: No positions of one of them can be made.
    """
    chem, draw = rdkit_chem(), np.random.default_rng(seed)
    rows = chem.GetMolFrags(molecule.mol)
    parts = chem.GetMolFrags(molecule.mol, asMols=True)
    own = [embed(replace(molecule, mol=part), n, seed).positions for part in parts]
    radii = vdw_radii[molecule.numbers]
    radii = np.where(np.isfinite(radii), radii, 2.0)
    starts = np.zeros((n, len(radii), 3))
    for number, positions in enumerate(starts):
        placed: list[int] = []
        for row, places in zip(rows, own, strict=True):
            part = places[number % len(places)]
            part = (part - part.mean(axis=0)) @ _turn(draw).T
            if placed:
                axis = _turn(draw)[0]
                part = part + positions[placed].mean(axis=0)
                sums = radii[placed][:, None] + radii[list(row)][None]
                part = part + axis * _reach(positions[placed], part, draw.uniform(*GAP) * sums, axis)
            positions[list(row)] = part
            placed += row
    return starts


def _turn(draw: np.random.Generator) -> FloatArray:
    """A random rotation [3, 3]."""
    return np.asarray(Rotation.random(random_state=draw).as_matrix())


def _reach(one: FloatArray, other: FloatArray, least: FloatArray, axis: FloatArray) -> float:
    """How far `other` is moved along an axis until no distance to `one` is below its least one [n_one, n_other]."""
    away = other[None] - one[:, None]
    along = away @ axis
    rest = least**2 - ((away**2).sum(axis=-1) - along**2)
    return float(np.where(rest > 0.0, np.sqrt(np.maximum(rest, 0.0)) - along, 0.0).max())
