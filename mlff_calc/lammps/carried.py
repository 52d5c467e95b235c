"""Files carried to where LAMMPS runs, under names that its input language can say.

LAMMPS splits commands at blanks, ends texts at quotes, and drops the first byte of letters such as u-umlaut: the path of a
user's file may hold all of these, and a name of ours holds none.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mlff_calc.caches import digest_of
from mlff_calc.errors import PotentialFileError


def carry(file: str | Path, sha256: str, folder: Path) -> str:
    """Copy an exported file that was checked into the folder where LAMMPS runs.

    Args:
        file: anywhere.
        sha256: of what was checked, in hexadecimal digits.
        folder: gets the copy.

    Returns:
        The name of the copy, for `pair_coeff`: no blanks, ASCII letters, and the file's own ending.

    Raises:
        PotentialFileError: the file is another one by now.
    """
    copy = folder / f"potential{Path(file).suffix}"
    shutil.copyfile(file, copy)
    if digest_of(copy) != sha256:
        copy.unlink()
        raise PotentialFileError(f"{file} has changed since it was checked; do not write to it while it is in use")
    return copy.name
