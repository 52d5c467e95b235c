"""Molecules in: SMILES, SDF, xyz, RDKit's molecules and ASE's atoms, as RDKit molecules with all hydrogens.

Bond orders, charges and stereo are those of the source; of an xyz file they are perceived, for the total charge that is
given. RDKit is the extra `conformers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses
from ase.io import read

from mlff_calc.errors import MLFFError, OptionError
from mlff_calc.graph.rmsd import FloatArray

if TYPE_CHECKING:
    from rdkit.Chem import Mol

LANTHANUM, HAFNIUM = 57, 72  # atomic numbers
ENDINGS = (".sdf", ".mol", ".xyz", ".extxyz", ".smi")


class MoleculeError(MLFFError, ValueError):
    """A molecule that cannot be read, embedded or kept.

    Attributes:
        reason: One word of `REASONS`, for tables of many molecules.
        is_of_use: Whether another try with other options can go on from the work that was done.
    """

    def __init__(self, reason: str, message: str, *, is_of_use: bool = False) -> None:
        super().__init__(message)
        self.reason, self.is_of_use = reason, is_of_use


REASONS = {
    "unreadable": "RDKit refuses the text or file",
    "mixture": "several molecules in one: a salt, a solvate, a complex",
    "radical": "unpaired electrons",
    "hydrogens": "hydrogens are missing in a file with positions",
    "bonds": "bonds cannot be perceived from positions",
    "element": "the potential does not know an element",
    "embedding": "no positions could be made",
    "time": "the budget of time ended before there was a structure",
    "calculator": "the calculator failed for every conformer",
    "reacted": "every conformer changed its bonds or its stereo while it relaxed",
}
"""Reasons why a molecule has no ensemble."""


@dataclass(frozen=True)
class Molecule:
    """One molecule.

    Attributes:
        mol: RDKit's molecule with explicit hydrogens; its conformers are those that the source gave, if any.
        name: Name in the source, else its SMILES.
        source: File or text from which it was read.
    """

    mol: Mol
    name: str
    source: str

    @property
    def charge(self) -> int:
        """Total charge in units of e."""
        chem = rdkit_chem()
        return int(chem.GetFormalCharge(self.mol))

    @property
    def open_stereo(self) -> list[str]:
        """Places whose stereo is not specified, such as `C1` or `C2=C3`: conformers of all stereoisomers are found.

        Allenes with two different groups at both ends, such as `C1=C2=C3`, are among them: a SMILES cannot specify them.
        """
        chem = rdkit_chem()
        with quiet():
            found = chem.FindPotentialStereo(self.mol)
        names = []
        for one in found:
            if one.specified == chem.StereoSpecified.Unspecified:
                if one.type == chem.StereoType.Bond_Double:
                    bond = self.mol.GetBondWithIdx(one.centeredOn)
                    ends = (bond.GetBeginAtom(), bond.GetEndAtom())
                    if not any(_is_cumulated(atom) for atom in ends):  # as in allenes, which have no E and Z
                        names.append("=".join(map(_name, ends)))
                elif one.type == chem.StereoType.Atom_Tetrahedral:
                    names.append(_name(self.mol.GetAtomWithIdx(one.centeredOn)))
        ranks = list(chem.CanonicalRankAtoms(self.mol, breakTies=False))
        for atom in self.mol.GetAtoms():
            if _is_cumulated(atom) and all(_has_two_sides(end, atom, ranks) for end in atom.GetNeighbors()):
                names.append("=".join(map(_name, (atom.GetNeighbors()[0], atom, atom.GetNeighbors()[1]))))
        return names

    @property
    def numbers(self) -> list[int]:
        """Atomic numbers in the order of the atoms."""
        return [atom.GetAtomicNum() for atom in self.mol.GetAtoms()]

    @property
    def masses(self) -> FloatArray:
        """Masses [n_atoms], amu; those of isotopes where the source names them."""
        chem = rdkit_chem()
        table = chem.GetPeriodicTable()
        return np.array([
            table.GetMassForIsotope(atom.GetAtomicNum(), atom.GetIsotope()) if atom.GetIsotope() else atomic_masses[z]
            for z, atom in zip(self.numbers, self.mol.GetAtoms(), strict=True)
        ])  # fmt: skip


def _name(atom: Any) -> str:  # noqa: ANN401
    """Symbol and number of RDKit's atom."""
    return f"{atom.GetSymbol()}{atom.GetIdx()}"


def _is_cumulated(atom: Any) -> bool:  # noqa: ANN401
    """Whether RDKit's atom stands between two double bonds and has no other neighbour."""
    return atom.GetTotalDegree() == 2 and all(bond.GetBondTypeAsDouble() == 2.0 for bond in atom.GetBonds())


def _has_two_sides(end: Any, middle: Any, ranks: list[int]) -> bool:  # noqa: ANN401
    """Whether an end of an allene has two other neighbours, which differ by their canonical ranks."""
    others = [ranks[atom.GetIdx()] for atom in end.GetNeighbors() if atom.GetIdx() != middle.GetIdx()]
    return len(others) == 2 and others[0] != others[1]


def rdkit_chem() -> Any:
    """RDKit's module `Chem`.

    Raises:
        OptionError: RDKit is not installed.
    """
    try:
        from rdkit import Chem
    except ImportError as error:
        raise OptionError(
            f"molecules need RDKit, which is not installed ({error}); pip install 'mlff_calc[conformers]'"
        ) from error
    return Chem


def read_molecules(source: str | Path | Atoms | Mol, charge: int = 0) -> list[Molecule]:
    """Molecules of a SMILES, a file, or an object of RDKit or ASE.

    Args:
        source: SMILES; path of an `.sdf`, `.mol`, `.xyz`, `.extxyz` or `.smi` file; RDKit's molecule; ASE's atoms.
        charge: Total charge, for atoms and xyz files, whose bonds are perceived; other sources have their own.

    Returns:
        At least one; an SDF or a list of SMILES may give more. Structures of one file that are the same molecule become
        one molecule with several conformers.

    Raises:
        MoleculeError: It cannot be read; its `reason` says what kind of failure it is.
        OptionError: RDKit is not installed, the path has no known ending, or the source has another charge.
    """
    molecules = _read(source, charge)
    for one in molecules:
        if charge and one.charge != charge:
            raise OptionError(f"{one.source!r} has a charge of {one.charge} e, and {charge} is asked for; leave charge out")
    return molecules


def _read(source: str | Path | Atoms | Mol, charge: int) -> list[Molecule]:
    """See `read_molecules`."""
    chem = rdkit_chem()
    if isinstance(source, Atoms):
        return [from_atoms([source], charge, "ASE atoms")]
    if isinstance(source, chem.Mol):
        return [checked(source, canonical_smiles(source), "RDKit molecule")]
    text = str(source)
    path = Path(text).expanduser()
    if path.suffix.lower() not in ENDINGS:
        if isinstance(source, Path) or path.is_file():
            raise OptionError(f"{text}: unknown kind of file; give one of {', '.join(ENDINGS)}, or a SMILES")
        return [from_smiles(text)]
    if not path.is_file():
        raise OptionError(f"{text}: no such file")
    kind = path.suffix.lower()
    if kind == ".smi":
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
        if not lines:
            raise MoleculeError("unreadable", f"{path}: holds no SMILES")
        return [from_smiles(line[0], line[1].strip() if len(line) > 1 else None) for line in lines]
    if kind in (".sdf", ".mol"):
        return _from_sdf(path)
    try:
        frames = read(path, index=":")
    except Exception as error:  # ASE's readers raise what they like
        raise MoleculeError("unreadable", f"{path}: ASE cannot read it ({type(error).__name__}: {error})") from error
    return [from_atoms(frames, charge, str(path))]


def from_smiles(smiles: str, name: str | None = None, *, several: bool = False) -> Molecule:
    """The molecule of a SMILES, without positions.

    Args:
        smiles: SMILES.
        name: Name; the SMILES by default.
        several: Whether it may hold several molecules, separated by dots.

    Raises:
        MoleculeError: See `read_molecules`.
    """
    chem = rdkit_chem()
    with quiet():
        mol = chem.MolFromSmiles(smiles)
    if mol is None:
        raise MoleculeError(
            "unreadable", f"{smiles!r}: RDKit reads no molecule in it; check the SMILES, or the file's name{_why(smiles)}"
        )
    return checked(chem.AddHs(mol), name or smiles, smiles, several=several)


def _why(smiles: str) -> str:
    """What RDKit finds wrong with a SMILES, in brackets."""
    chem = rdkit_chem()
    with quiet():
        mol = chem.MolFromSmiles(smiles, sanitize=False)
        problems = [] if mol is None else chem.DetectChemistryProblems(mol)
    return f" ({problems[0].Message()})" if problems else ""


def _from_sdf(path: Path) -> list[Molecule]:
    """Molecules of an SDF or mol file; structures of one molecule that stand behind each other become its conformers."""
    chem = rdkit_chem()
    try:
        with quiet():
            found = list(chem.SDMolSupplier(str(path), removeHs=False))
    except OSError:  # an empty file
        found = []
    if not found:
        raise MoleculeError("unreadable", f"{path}: holds no molecule")
    molecules: list[Molecule] = []
    for number, mol in enumerate(found):
        where = str(path) if len(found) == 1 else f"{path}, molecule {number + 1}"
        if mol is None:
            raise MoleculeError("unreadable", f"{where}: RDKit refuses it; check valences and the counts line")
        name = mol.GetProp("_Name").strip() if mol.HasProp("_Name") else ""
        flat = mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D()
        if flat:
            mol.RemoveAllConformers()
        elif sum(atom.GetTotalNumHs() for atom in mol.GetAtoms()) > 0:  # implicit ones
            raise MoleculeError(
                "hydrogens",
                f"{where}: has positions but lacks hydrogens; add them (obabel -h, or Chem.AddHs(mol, addCoords=True))",
            )
        else:
            chem.AssignStereochemistryFrom3D(mol)
        one = checked(chem.AddHs(mol), name or canonical_smiles(mol), where)
        if molecules and _are_conformers(molecules[-1].mol, one.mol):
            molecules[-1].mol.AddConformer(one.mol.GetConformer(), assignId=True)
        else:
            molecules.append(one)
    return [replace(one, source=str(path)) for one in molecules] if len(molecules) == 1 else molecules


def _are_conformers(one: Mol, other: Mol) -> bool:
    """Whether two molecules with positions have the same atoms in the same order, bonds and stereo."""
    chem = rdkit_chem()
    if not (one.GetNumConformers() and other.GetNumConformers()):
        return False
    facts = []
    for mol in (one, other):
        atoms = [(atom.GetAtomicNum(), atom.GetIsotope(), atom.GetFormalCharge()) for atom in mol.GetAtoms()]
        bonds = {(*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), b.GetBondType()) for b in mol.GetBonds()}
        with quiet():
            facts.append((atoms, bonds, chem.MolToSmiles(mol)))  # its SMILES tells the stereo
    return bool(facts[0] == facts[1])


def have_same_bonds(one: Mol, other: Mol) -> bool:
    """Whether two molecules have the same atoms in the same order and the same bonds, whatever their stereo."""
    chem = rdkit_chem()
    facts = []
    for mol in (one, other):
        atoms = [(atom.GetAtomicNum(), atom.GetIsotope()) for atom in mol.GetAtoms()]
        bonds = {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in mol.GetBonds()}
        with quiet():
            facts.append((atoms, bonds, chem.MolToSmiles(mol, isomericSmiles=False)))  # its charges and bond orders
    return bool(facts[0] == facts[1])


def from_atoms(frames: Sequence[Atoms], charge: int, source: str) -> Molecule:
    """A molecule with conformers out of frames with the same atoms in the same order; bonds are perceived in the first.

    Raises:
        MoleculeError: Bonds or bond orders cannot be perceived, or the frames are not one molecule.
    """
    chem = rdkit_chem()
    from rdkit.Chem import rdDetermineBonds
    from rdkit.Geometry import Point3D

    if not frames:
        raise MoleculeError("unreadable", f"{source}: holds no structures")
    first = frames[0]
    if any(frame.pbc.any() for frame in frames):
        raise MoleculeError("unreadable", f"{source}: is periodic; conformers are of molecules, turn pbc off")
    block = f"{len(first)}\n\n" + "\n".join(
        f"{symbol} {x:.10f} {y:.10f} {z:.10f}"
        for symbol, (x, y, z) in zip(first.symbols, first.positions, strict=True)
    )
    with quiet():
        mol = chem.MolFromXYZBlock(block + "\n")
    if mol is None:
        raise MoleculeError("unreadable", f"{source}: RDKit reads no atoms in it")
    try:
        with quiet():
            rdDetermineBonds.DetermineBonds(mol, charge=charge)
            chem.SanitizeMol(mol)
            chem.AssignStereochemistryFrom3D(mol)
    except Exception as error:  # RDKit raises ValueError, and errors of its own
        text = " ".join(str(error).split())
        raise MoleculeError(
            "bonds",
            f"{source}: bonds of {first.get_chemical_formula()} with charge {charge} cannot be perceived ({text}); "
            "check that all hydrogens are there, give --charge, or start from an SDF or SMILES",
        ) from error
    for frame in frames[1:]:
        if frame.numbers.tolist() != first.numbers.tolist():
            raise MoleculeError(
                "mixture", f"{source}: frames are not of one molecule with one order of atoms; give a file for each"
            )
        conformer = chem.Conformer(len(frame))
        for number, place in enumerate(frame.positions):
            conformer.SetAtomPosition(number, Point3D(*map(float, place)))
        mol.AddConformer(conformer, assignId=True)
    try:
        return checked(mol, str(first.info.get("name", "")) or canonical_smiles(mol), source)
    except MoleculeError as error:
        if error.reason != "radical":
            raise
        raise MoleculeError("radical", f"{error}; or hydrogens are missing in these positions: add them") from error


def checked(mol: Mol, name: str, source: str, *, several: bool = False) -> Molecule:
    """A molecule that is one piece, unless it may be several, and has no unpaired electrons.

    Raises:
        MoleculeError: It is not.
    """
    chem = rdkit_chem()
    with quiet():
        mol = chem.AddHs(mol, addCoords=mol.GetNumConformers() > 0)
        pieces = chem.GetMolFrags(mol)
    if mol.GetNumAtoms() == 0:
        raise MoleculeError("unreadable", f"{source!r}: has no atoms")
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        raise MoleculeError("unreadable", f"{source!r}: holds atoms without an element (*); name all of them")
    if len(pieces) > 1 and not several:
        raise MoleculeError(
            "mixture",
            f"{source!r}: holds {len(pieces)} molecules (a salt or a mixture); give one of them by itself",
        )
    radicals = [atom for atom in mol.GetAtoms() if atom.GetNumRadicalElectrons()]
    if radicals:
        where = ", ".join(f"{atom.GetSymbol()}{atom.GetIdx()}" for atom in radicals[:5])
        raise MoleculeError("radical", f"{source!r}: unpaired electrons on {where}; radicals are not supported")
    molecule = Molecule(mol, name, source)
    electrons = number_of_electrons(molecule.numbers, molecule.charge)
    if electrons % 2:  # of metals, which RDKit does not call radicals
        raise MoleculeError(
            "radical",
            f"{source!r}: has {electrons} electrons with its charge of {molecule.charge} e, an odd number; radicals are not "
            "supported",
        )
    return molecule


def number_of_electrons(numbers: Sequence[int], charge: int) -> int:
    """Number of electrons; 4f electrons of lanthanides do not count, which semiempirical methods have in the core."""
    return sum(LANTHANUM if LANTHANUM < z < HAFNIUM else z for z in numbers) - charge


def canonical_smiles(mol: Mol) -> str:
    """Canonical SMILES without hydrogens."""
    chem = rdkit_chem()
    with quiet():
        text: str = chem.MolToSmiles(chem.RemoveHs(mol))
    return text


def quiet() -> Any:
    """A `with` block in which RDKit writes nothing to the screen: what it would say goes into our errors."""
    from rdkit import rdBase

    return rdBase.BlockLogs()
