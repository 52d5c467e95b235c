"""Example inputs of LAMMPS, which ship with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlff_calc.errors import OptionError


def inputs_folder() -> Path:
    """Return the folder of the inputs: in the installed package, or `md_runs/lammps` of a checkout."""
    installed = Path(__file__).resolve().parent / "inputs"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "md_runs" / "lammps"


def copy_inputs(folder: str | Path) -> list[Path]:
    """Copy the inputs, and the data file that one of them reads, into a folder.

    Args:
        folder: folder of the copies, created if necessary.

    Returns:
        The copies, by name.

    Raises:
        OptionError: a copy exists already, or the folder cannot be written; nothing is copied then.
    """
    sources = sorted(path for path in inputs_folder().iterdir() if path.name.startswith("in.") or path.suffix == ".data")
    copies = [Path(folder) / path.name for path in sources]
    present = [str(copy) for copy in copies if copy.exists()]
    if present:
        raise OptionError(f"{', '.join(present)}: there already, and not replaced; choose another folder by -o")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for source, copy in zip(sources, copies, strict=True):
            shutil.copyfile(source, copy)
    except OSError as error:
        raise OptionError(f"the inputs cannot be written to {folder} ({error}); choose another folder by -o") from error
    return copies
