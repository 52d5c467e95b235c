"""Structures of a SMILES with which something can begin."""

from __future__ import annotations

from ase import Atoms

from mlff_calc.datasets.embed import embed
from mlff_calc.datasets.mmff import minima
from mlff_calc.datasets.molecules import Molecule, MoleculeError, from_smiles, rdkit_chem
from mlff_calc.datasets.pairs import in_contact
from mlff_calc.graph.rmsd import FloatArray


def starts(molecule: Molecule, n: int, seed: int) -> FloatArray:
    """Positions [n_starts, n_atoms, 3] (Angstrom) from which minima are searched; several molecules are in contact.

    Raises:
        MoleculeError: RDKit finds no positions.
    """
    if len(rdkit_chem().GetMolFrags(molecule.mol)) > 1:
        return in_contact(molecule, n, seed)
    return embed(molecule, n, seed).positions


def structures(molecule: Molecule, n: int, seed: int) -> list[Atoms]:
    """Up to `n` minima of MMFF94 by rising energy, with the total charge in `info`.

    Raises:
        MoleculeError: MMFF94 lacks parameters, or there are no positions.
    """
    info = {"charge": molecule.charge} if molecule.charge else {}
    found = minima(molecule.mol, starts(molecule, n, seed))[:n]
    return [Atoms(molecule.numbers, positions, info=dict(info)) for positions in found]


def atoms_from_smiles(smiles: str, seed: int = 0) -> Atoms:
    """A structure of a SMILES: a minimum of MMFF94, or positions by ETKDG without it; dots separate molecules in contact.

    Args:
        smiles: SMILES.
        seed: Seed of the positions.

    Raises:
        MoleculeError: It cannot be read, or there are no positions.
        OptionError: RDKit is not installed.
    """
    molecule = from_smiles(smiles, several=True)
    try:
        return structures(molecule, 1, seed)[0]
    except MoleculeError as error:
        if error.reason != "parameters":
            raise
    return Atoms(molecule.numbers, starts(molecule, 1, seed)[0], info={"charge": molecule.charge} if molecule.charge else {})
