"""The folder in which a command keeps its work until its output is whole, so that it can go on after an interruption."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlff_calc.datasets.molecules import MoleculeError
from mlff_calc.errors import OptionError


@dataclass
class Work:
    """A folder of work.

    Attributes:
        folder: The folder; it need not exist.
        is_whole: Whether the output is whole, so that the work is not needed any more.
    """

    folder: Path
    is_whole: bool = True


@contextmanager
def work_folder(files: Sequence[Path], *, overwrite: bool, resume: bool) -> Iterator[Work]:
    """Give a hidden folder beside the first file, and remove it when the block ends without an error and output is whole.

    It is removed as well where a molecule is refused, so that the next one is not refused for it.

    Args:
        files: Files that the command writes.
        overwrite: Whether they may be replaced and, without `resume`, an interrupted run begun anew.
        resume: Whether an interrupted run goes on.

    Raises:
        OptionError: A file is there, or an interrupted run, or a file cannot be written.
        MoleculeError: What the block raises.
        KeyboardInterrupt: Ctrl-C was pressed; the message says where the work stands.
    """
    for file in files:
        if not file.parent.is_dir():
            raise OptionError(f"{file}: there is no folder {file.parent}; make it first")
        if not os.access(file.parent, os.W_OK):
            raise OptionError(f"{file}: the folder {file.parent} cannot be written to; choose another --output")
        if file.exists() and not overwrite:
            raise OptionError(f"{file} would be replaced; choose another --output, or give --overwrite")
    folder = files[0].with_name(f".{files[0].stem}.work")
    if folder.exists() and not resume:
        if not overwrite:
            raise OptionError(f"{folder} holds an interrupted run; go on with --resume, or begin anew with --overwrite")
        shutil.rmtree(folder)
    work = Work(folder)
    try:
        yield work
    except KeyboardInterrupt as stop:
        if not folder.exists():
            raise
        raise KeyboardInterrupt(f"What was done is in {folder}; go on with --resume") from stop
    except MoleculeError as error:
        if not error.is_of_use:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if work.is_whole:
        shutil.rmtree(folder, ignore_errors=True)
