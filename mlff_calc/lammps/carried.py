"""Copies of files in the folder of LAMMPS, under names that its input language accepts.

LAMMPS splits commands at blanks, ends texts at quotes, and drops the first byte of letters such as u-umlaut. The path
of a user's file may contain any of these; the names chosen here contain none.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mlff_calc.caches import digest_of
from mlff_calc.errors import PotentialFileError


def carry(file: str | Path, sha256: str, folder: Path) -> str:
    """Copy a checked exported file into the folder of LAMMPS.

    Args:
        file: exported file, in any folder.
        sha256: SHA-256 of the checked content, in hexadecimal digits.
        folder: folder of the copy.

    Returns:
        The name of the copy, for `pair_coeff`: ASCII letters without blanks, and the suffix of the file.

    Raises:
        PotentialFileError: the file has changed.
    """
    copy = folder / f"potential{Path(file).suffix}"
    shutil.copyfile(file, copy)
    if digest_of(copy) != sha256:
        copy.unlink()
        raise PotentialFileError(f"{file} has changed since it was checked; do not write to it while it is in use")
    return copy.name
