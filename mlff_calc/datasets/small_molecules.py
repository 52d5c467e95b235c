"""Molecules that are grown: a scaffold, some of whose hydrogens are replaced by common groups.

Groups that begin with a heteroatom go to saturated or aromatic carbon that has no other heteroatom, so that no peroxides,
hemiacetals and enols come out; carbon goes to carbon and to nitrogen.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from typing import Any

from mlff_calc.datasets.molecules import rdkit_chem

SCAFFOLDS = (
    "C", "CC", "CCC", "CCCC", "CC(C)C", "C=C", "CC=C", "C#C", "CC#C", "C=CC=C", "C1CC1", "C1CCC1", "C1CCCC1",
    "C1CCCCC1", "C1=CCCC1", "c1ccccc1", "c1ccncc1", "c1cncnc1", "c1cnccn1", "c1cc[nH]c1", "c1ccoc1", "c1ccsc1",
    "c1c[nH]cn1", "c1cn[nH]c1", "c1cocn1", "c1cscn1", "C1CO1", "C1COC1", "C1CCOC1", "C1CNC1", "C1CCNC1", "C1CCNCC1",
    "C1COCCN1", "C1COCCO1", "C1CCSC1", "CO", "CCO", "COC", "CN", "CCN", "CNC", "CS", "CSC", "CC=O", "CC(C)=O",
    "CC(=O)O", "CC(=O)OC", "CC(N)=O", "CNC=O", "CC#N", "NC(N)=O", "CN=C", "CS(C)=O", "CS(C)(=O)=O", "O=C1CCC1",
    "O=C1CCCN1", "O=C1CCCO1", "C[N+](=O)[O-]", "CC=NO", "CP(C)C",
)  # fmt: skip
"""What molecules begin with."""
GROUPS = (
    "C", "CC", "C(C)C", "C=C", "C#C", "C#N", "C=O", "C(C)=O", "C(=O)O", "C(N)=O", "CO", "CN", "C(F)(F)F", "CF",
    "c1ccccc1", "C1CC1", "F", "Cl", "Br", "O", "OC", "N", "NC", "N(C)C", "S", "SC", "NC=O", "[N+](=O)[O-]",
)  # fmt: skip
"""Groups, which bind by their first atom."""
MOST_GROUPS = 4
"""Largest number of groups. Raising it makes larger molecules more frequent."""
PATIENCE = 2000
"""Number of draws without a new molecule after which there are no more. Raising it finds a few more and takes longer."""


def grown(seed: int, max_atoms: int, elements: Collection[str]) -> Iterator[str]:
    """Draw molecules, each once, as canonical SMILES.

    Args:
        seed: Seed of the draws.
        max_atoms: Largest number of atoms, hydrogens counted.
        elements: Chemical symbols that may occur.
    """
    chem, draw = rdkit_chem(), random.Random(seed)
    scaffolds, groups = ([chem.MolFromSmiles(text) for text in texts] for texts in (SCAFFOLDS, GROUPS))
    seen: set[str] = set()
    in_vain = 0
    while in_vain < PATIENCE:
        mol, in_vain = draw.choice(scaffolds), in_vain + 1
        for _ in range(draw.randint(0, MOST_GROUPS)):
            mol = _bound(mol, draw.choice(groups), draw)
        text = str(chem.MolToSmiles(mol))
        if text not in seen and fits(mol, elements, max_atoms):
            seen.add(text)
            in_vain = 0
            yield text


def fits(mol: object, elements: Collection[str], max_atoms: int) -> bool:
    """Whether RDKit's molecule has at most `max_atoms` atoms with its hydrogens, of these elements alone."""
    atoms = mol.GetAtoms()  # type: ignore[attr-defined]
    hydrogens = sum(atom.GetTotalNumHs() for atom in atoms)
    symbols = {atom.GetSymbol() for atom in atoms} | ({"H"} if hydrogens else set())
    return len(atoms) + hydrogens <= max_atoms and symbols <= set(elements)


def _bound(mol: Any, group: Any, draw: random.Random) -> Any:  # noqa: ANN401
    """A molecule with a group in place of one of its hydrogens; the molecule itself where there is no place for it."""
    chem = rdkit_chem()
    first = group.GetAtomWithIdx(0)
    places = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetTotalNumHs() and _is_place(atom, first)]
    if not places:
        return mol
    place = draw.choice(places)
    both = chem.RWMol(chem.CombineMols(mol, group))
    both.AddBond(place, mol.GetNumAtoms(), chem.BondType.SINGLE)
    atom = both.GetAtomWithIdx(place)
    if atom.GetNumExplicitHs():  # as of nitrogen in pyrrole
        atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    return chem.MolFromSmiles(chem.MolToSmiles(both)) or mol


def _is_place(atom: Any, first: Any) -> bool:  # noqa: ANN401
    """Whether an atom may bind the first atom of a group."""
    symbol, incoming = atom.GetSymbol(), first.GetSymbol()
    if incoming == "C":
        return symbol in ("C", "N")
    if symbol != "C" or atom.GetIsAromatic():
        return bool(symbol == "C")
    neighbours = {one.GetSymbol() for one in atom.GetNeighbors()}
    is_saturated = all(bond.GetBondTypeAsDouble() == 1.0 for bond in atom.GetBonds())
    return is_saturated and neighbours <= ({"C", "F"} if incoming == "F" else {"C"})
