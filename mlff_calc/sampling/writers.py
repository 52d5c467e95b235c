"""Ensembles as files: SDF with bond orders, extxyz, CSV, and a page. Each is written whole or not at all."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ase.io import write

from mlff_calc.datasets.molecules import rdkit_chem
from mlff_calc.errors import OptionError
from mlff_calc.sampling.ensemble import Ensemble
from mlff_calc.sampling.page import ensemble_page
from mlff_calc.whole_files import write_whole

ENDINGS = (".sdf", ".extxyz", ".xyz", ".csv", ".html")


def check_ending(path: Path) -> None:
    """Refuse a file that could not be written in the end.

    Raises:
        OptionError: Another ending, or a folder that is not there.
    """
    if path.suffix.lower() not in ENDINGS:
        raise OptionError(f"{path}: unknown kind of file; give one of {', '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise OptionError(f"{path}: there is no folder {path.parent}; make it first")


def write_ensemble(ensemble: Ensemble, path: Path) -> None:
    """Write an ensemble in the form that the ending says.

    Args:
        ensemble: Its conformers are written in order, with the values of `Ensemble.rows`.
        path: `.sdf`, `.extxyz` (or `.xyz`), `.csv` or `.html`.

    Raises:
        OptionError: See `check_ending`.
        OSError: The disk refuses.
    """
    check_ending(path)
    kind = path.suffix.lower()
    make = {".sdf": as_sdf, ".csv": as_csv, ".html": ensemble_page}.get(kind, as_extxyz)
    write_whole(path, make(ensemble))


def as_sdf(ensemble: Ensemble) -> str:
    """An SDF of all conformers, with bond orders, charges and the values of their rows as properties."""
    chem = rdkit_chem()
    mol, stream = ensemble.to_rdkit(), io.StringIO()
    mol.SetProp("_Name", ensemble.molecule.name)
    writer = chem.SDWriter(stream)
    for number, row in enumerate(ensemble.rows()):
        for name, value in row.items():
            mol.SetProp(name, str(value))
        writer.write(mol, confId=number)
    writer.close()
    return stream.getvalue()


def as_extxyz(ensemble: Ensemble) -> str:
    """An extxyz file of all conformers, with the values of their rows in the comment lines."""
    stream, frames = io.StringIO(), ensemble.to_ase()
    for frame in frames:
        for name, value in frame.info.items():
            if isinstance(value, str):
                frame.info[name] = value.replace("\\", "\\\\")  # ASE reads a backslash as the beginning of an escape
    write(stream, frames, format="extxyz")
    return stream.getvalue()


def as_csv(ensemble: Ensemble) -> str:
    """A table of all conformers."""
    rows, stream = ensemble.rows(), io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
