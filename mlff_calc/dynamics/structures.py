"""Initial structures of runs and relaxations: files, molecules by name or SMILES, and the examples of potentials."""

from __future__ import annotations

import re
from pathlib import Path

from ase import Atoms

from mlff_calc.bounded import require_regular
from mlff_calc.datasets.ase_files import read_frame
from mlff_calc.datasets.molecules import MoleculeError
from mlff_calc.datasets.starts import atoms_from_smiles
from mlff_calc.errors import DatasetError, OptionError, StructureError
from mlff_calc.graph.masses import with_named_masses
from mlff_calc.near import nearest

SMILES = "smiles:"
"""Prefix of a SMILES that could be something else."""
_ALPHABET = re.compile(r"[A-Za-z0-9@+\-\[\]()=#$:./\\%]+")
EXAMPLES = ("example.extxyz", "structure.xyz")
"""File names of the example structure in the folder of a potential; the first that exists is used."""


def read_structure(path: Path, *, frame: int = -1, masses: bool = False) -> Atoms:
    """Read a frame of a file.

    Args:
        path: File in any format that ASE reads.
        frame: Number of the frame; negative numbers count from the end.
        masses: Whether to use the masses of a column such as `mass`, which dynamics need.

    Raises:
        StructureError: The file does not exist (the text gives the nearest name), cannot be read or has no atoms, or its
            masses are not valid in amu.
    """
    if not path.exists():
        near = near_path(path)
        raise StructureError(f"no structure file {path}: " + (f"did you mean {near}?" if near else "check the path"))
    require_regular(path, StructureError)
    try:
        atoms = read_frame(path, frame)
    except DatasetError as error:
        raise StructureError(str(error)) from error
    except Exception as error:  # ASE's readers of some seventy formats raise errors of any type
        raise StructureError(
            f"ASE cannot read {path} ({type(error).__name__}: {error}). Check the file, and that its suffix fits its format."
        ) from error
    if len(atoms) == 0:
        raise StructureError(f"{path} holds no atoms. Give a file with a structure.")
    return with_named_masses(atoms) if masses else atoms


def is_there(path: str | Path) -> bool:
    """Whether there is a file or folder of this name; a text that can be no name is none."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a character that no name has
        return False


def near_path(path: Path) -> Path | None:
    """Return the path of the file with the most similar name in the same folder; None where there is none."""
    if not path.parent.is_dir():
        return None
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    near = nearest(path.name, names)
    return path.with_name(near) if near else None


def structure_to_start(structure: Atoms | str | Path, *, shown: str = "structure") -> Atoms:
    """Return the initial structure: the given atoms, the content of a file, a molecule of ASE's g2 set, or of a SMILES.

    Args:
        structure: Atoms; the path of a file that ASE reads (its last frame); the name of a molecule; or a SMILES, of which
            the structure is a minimum of MMFF94 (dots separate molecules in contact). `smiles:CO` is a SMILES in any case.
        shown: Name of the option, for the error text.

    Raises:
        StructureError: There is no such file, molecule and SMILES; see also `read_structure`.
        OptionError: It is a SMILES, and RDKit is not installed.
    """
    if isinstance(structure, Atoms):
        return structure
    if is_there(structure):
        return read_structure(Path(structure), masses=True)
    from ase.build import molecule
    from ase.collections import g2

    name = str(structure).strip()
    if name in g2.names:
        return molecule(name)
    text = name.removeprefix(SMILES)
    if text != name:
        try:
            return atoms_from_smiles(text)
        except MoleculeError as error:
            raise StructureError(f"{shown} {name}: {error}") from error
    near = near_path(Path(structure)) or nearest(name, g2.names)
    cure = f"Did you mean {near}?" if near else "Give a file that ASE reads, or a SMILES."
    if _ALPHABET.fullmatch(name):
        try:
            return atoms_from_smiles(name)
        except MoleculeError as error:
            if error.reason != "unreadable":
                raise StructureError(f"{shown} {name}: {error}") from error
        except OptionError as error:
            cure += f" If it is a SMILES: {error}"
    raise StructureError(f"{shown} {name}: no such file, no molecule of ASE's g2 set with this name, and no SMILES. {cure}")


def example_of(potential: str | Path, *, shown: str = "structure") -> Atoms:
    """Read the example structure in the folder of a potential.

    Args:
        potential: Name of a shipped potential, or a folder.
        shown: Name of the option that gives another structure, for the error text.

    Raises:
        StructureError: The potential has no example structure.
        PotentialFileError: The potential does not exist.
    """
    from mlff_calc.export.opening import is_exported
    from mlff_calc.potential import find_potential

    if is_exported(potential):
        raise StructureError(f"the exported file {potential} has no example structure. Name one with {shown} FILE.")
    folder = find_potential(potential)
    for name in EXAMPLES:
        if (folder / name).is_file():
            return read_structure(folder / name, masses=True)
    raise StructureError(f"the potential in {folder} has no example structure. Name one with {shown} FILE.")
