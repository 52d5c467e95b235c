"""Structures with one number each: frames of any file that ASE reads, or rows of a CSV file with SMILES.

Molecules of SMILES get the first positions that RDKit's distance geometry finds, always the same for one seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from ase.io.formats import string2index

from mlff_calc.bounded import shorten
from mlff_calc.datasets.ase_files import iterate_frames
from mlff_calc.datasets.embed import embed
from mlff_calc.datasets.labels import available_names, find_label
from mlff_calc.datasets.molecules import MoleculeError, from_smiles
from mlff_calc.datasets.readers import existing_file
from mlff_calc.datasets.tables import TABLES, table_rows
from mlff_calc.errors import DatasetError
from mlff_calc.near import suggestion

Policy = Literal["refuse", "skip"]


@dataclass(frozen=True, eq=False)
class PropertySample:
    """A structure with its label.

    Attributes:
        atoms: Structure; `info['charge']` is its total charge where the source tells one.
        value: Label; NaN where there is none.
        path: File.
        frame: Number of the frame or row in the file, from 0.
        text: SMILES in the file; empty for frames.
    """

    atoms: Atoms
    value: float
    path: Path
    frame: int
    text: str = ""

    @property
    def place(self) -> str:
        """File and frame, for messages."""
        return f"{self.path}, {f'row {self.frame} ({self.text})' if self.text else f'frame {self.frame}'}"


@dataclass(frozen=True)
class PropertyRead:
    """Result of `read_properties`.

    Attributes:
        samples: Structures, in order.
        notes: Sentences about what was left out.
    """

    samples: list[PropertySample]
    notes: list[str]


def read_properties(
    path: str | Path,
    label: str | None,
    *,
    index: str = ":",
    format: str | None = None,
    smiles: str = "smiles",
    seed: int = 0,
    failed: Policy = "refuse",
    missing: Policy = "refuse",
) -> PropertyRead:
    """Read structures with one label each.

    Args:
        path: File that ASE reads, or a table (.csv, .tsv) with a row of headings.
        label: Name of the label in `atoms.info` or ASE's results, or of its column; None for structures alone.
        index: Frames or rows, as in ASE.
        format: ASE's name of the format; None to decide by the name of the file.
        smiles: Column of SMILES, for tables.
        seed: Seed of positions made from SMILES.
        failed: Whether SMILES that give no molecule or no positions are an error, or left out.
        missing: Whether labels that are missing, empty or NaN are an error, or their frames left out.

    Raises:
        DatasetError: The file cannot be read, has no such label or column, a label is not one number, or something that
            should be refused is found; the message names the first place and the cure.
        OptionError: RDKit is not installed, for tables.
    """
    file = existing_file(path)
    if file.suffix.lower() in TABLES:
        samples, notes = _table(file, label, index, smiles, seed, failed)
    else:
        samples, notes = list(_frames(file, label, index, format)), []
    if not samples:
        raise DatasetError(f"{file}: no structures are left of {index!r}; {' '.join(notes) or 'name other frames'}")
    if label is None:
        return PropertyRead(samples, notes)
    bad = [one for one in samples if not math.isfinite(one.value)]
    if len(bad) == len(samples):
        names = available_names(next(iterate_frames(file, 0, format))[1]) if file.suffix.lower() not in TABLES else []
        hint = suggestion(label, names, before=" ") or f" the first frame has {', '.join(names) or 'nothing'}"
        raise DatasetError(f"{file}: no frame has a number under the label {label!r};{hint}. Name it in data.label or --key")
    if bad and missing == "refuse":
        raise DatasetError(
            f"{len(bad)} of {len(samples)} labels {label!r} of {file} are missing or not finite, the first is that of "
            f"{bad[0].place}; correct them, or leave these frames out by data.missing: skip"
        )
    if bad:
        notes.append(f"{len(bad)} of {len(samples)} frames of {file} have no label {label!r} and are left out.")
    return PropertyRead([one for one in samples if math.isfinite(one.value)], notes)


def _frames(file: Path, label: str | None, index: str, format: str | None) -> Iterator[PropertySample]:
    """Iterate over the frames of a file that ASE reads."""
    for number, atoms in iterate_frames(file, index, format):
        place = f"{file}, frame {number}"
        value = None if label is None else find_label(atoms, label, place)
        found = math.nan if value is None or label is None else _number(value, len(atoms), label, place)
        own = atoms.copy()  # type: ignore[no-untyped-call]
        own.info = {name: atoms.info[name] for name in ("charge", "total_charge") if name in atoms.info}
        yield PropertySample(own, found, file, number)


def _number(value: object, n_atoms: int, label: str, place: str) -> float:
    """Return a label as a number; NaN where it is empty text."""
    array = np.asarray(value)
    if array.dtype.kind in "US" and array.ndim == 0:
        return _text_number(str(value), label, place)
    if array.size != 1 or array.dtype.kind not in "fiu":
        each = array.ndim > 0 and len(array) == n_atoms and n_atoms > 1
        raise DatasetError(
            f"{place}: label {label!r} has shape {list(array.shape)}"
            + (f", one entry for each of {n_atoms} atoms" if each else "")
            + "; a property is one number of a whole structure: name another label, or write its sum or mean"
        )
    return float(array.reshape(()))


def _text_number(text: str, label: str, place: str) -> float:
    """Return the number in a text; NaN where it is empty."""
    if not text.strip():
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise DatasetError(f"{place}: label {label!r} is {shorten(text)}, not a number; correct or rename it") from None


def _table(
    file: Path, label: str | None, index: str, smiles: str, seed: int, failed: Policy
) -> tuple[list[PropertySample], list[str]]:
    """Read the rows of a table, and make positions of their molecules."""
    wanted = {smiles: "data.smiles"} | ({} if label is None else {label: "data.label or --key"})
    rows = list(enumerate(table_rows(file, wanted)))
    try:
        chosen = string2index(index)
        rows = rows[chosen] if isinstance(chosen, slice) else [rows[chosen]]
    except (ValueError, IndexError) as error:
        raise DatasetError(f"{file}: rows {index!r} cannot be read ({error}); write an index as in ASE, ':100'") from error
    samples: list[PropertySample] = []
    failures: list[str] = []
    for number, row in rows:
        own = (row[smiles] or "").strip()
        try:
            atoms = atoms_of_smiles(own, seed)
        except MoleculeError as error:
            failures.append(f"row {number}: {error}")
            continue
        place = f"{file}, row {number}"
        value = math.nan if label is None else _text_number(row[label] or "", label, place)
        samples.append(PropertySample(atoms, value, file, number, own))
    if failures and failed == "refuse":
        raise DatasetError(
            f"{len(failures)} of {len(rows)} SMILES of {file} give no molecule; the first is {failures[0]}. Correct them, "
            "or leave these rows out by data.failed: skip"
        )
    count = f"{len(failures)} of {len(rows)} SMILES of {file}"
    return samples, [f"{count} give no molecule and are left out ({failures[0]})."] if failures else []


def atoms_of_smiles(smiles: str, seed: int = 0) -> Atoms:
    """Make a structure of a SMILES, by RDKit's distance geometry; `info['charge']` is its charge.

    Raises:
        MoleculeError: It gives no molecule or no positions, or names an isotope, which networks of elements do not see.
        OptionError: RDKit is not installed.
    """
    if not smiles:
        raise MoleculeError("unreadable", "the SMILES is empty")
    molecule = from_smiles(smiles)
    isotope = next((atom for atom in molecule.mol.GetAtoms() if atom.GetIsotope()), None)
    if isotope is not None:
        raise MoleculeError(
            "element", f"{smiles!r} names the isotope {isotope.GetIsotope()}{isotope.GetSymbol()}, which networks do not see"
        )
    atoms = Atoms(numbers=molecule.numbers, positions=embed(molecule, 1, seed).positions[0])
    if molecule.charge:
        atoms.info["charge"] = molecule.charge
    return atoms


def refuse_in_two_parts(parts: dict[str, Sequence[PropertySample]], origin: str) -> None:
    """Refuse frames that are in two parts.

    Args:
        parts: Samples by part.
        origin: Recipe, for the message.

    Raises:
        DatasetError: A frame is in two parts.
    """
    seen: dict[tuple[Path, int], str] = {}
    for part, samples in parts.items():
        for one in samples:
            other = seen.setdefault((one.path, one.frame), part)
            if other != part:
                raise DatasetError(
                    f"{origin}: {one.place} is in `{other}` and in `{part}`; name other files, or let data.split divide them"
                )
