"""The folder in which a command keeps its work until its output is written, so that it can go on after an interruption."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlff_calc.errors import OptionError


@contextmanager
def work_folder(files: Sequence[Path], *, overwrite: bool, resume: bool) -> Iterator[Path]:
    """Give a hidden folder beside the first file, and remove it when the block ends without an error.

    Args:
        files: Files that the command writes.
        overwrite: Whether they may be replaced, and an interrupted run begun anew.
        resume: Whether an interrupted run goes on.

    Raises:
        OptionError: A file is there, or an interrupted run.
        KeyboardInterrupt: Ctrl-C was pressed; the message says where the work stands.
    """
    for file in files:
        if file.exists() and not overwrite:
            raise OptionError(f"{file} would be replaced; choose another --output, or give --overwrite")
    folder = files[0].with_name(f".{files[0].stem}.work")
    if folder.exists() and not resume:
        if not overwrite:
            raise OptionError(f"{folder} holds an interrupted run; go on with --resume, or begin anew with --overwrite")
        shutil.rmtree(folder)
    try:
        yield folder
    except KeyboardInterrupt as stop:
        if not folder.exists():
            raise
        raise KeyboardInterrupt(f"What was done is in {folder}; go on with --resume") from stop
    shutil.rmtree(folder, ignore_errors=True)
