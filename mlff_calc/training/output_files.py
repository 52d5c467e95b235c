"""Checks of files that a command will write, before it begins its work."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlff_calc.errors import OptionError


def check_output(option: str, path: Path, suffixes: Sequence[str], example: str, *, overwrite: bool = True) -> None:
    """Check, before the work is done, that a file can be written.

    Args:
        option: Name of the option that named it, for messages.
        path: The file.
        suffixes: Suffixes that it may have.
        example: Name for a file in the folder, for messages.
        overwrite: Whether an older file may be replaced.

    Raises:
        OptionError: It cannot be written, or exists already.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise OptionError(f"{option} {path}: is a folder; name a file in it, such as {path / example}")
    if path.suffix.lower() not in suffixes:
        what = "the picture is a PNG file" if suffixes == (".png",) else "the name decides the format"
        raise OptionError(f"{option} {path}: {what}; give a name that ends in {' or '.join(suffixes)}")
    if not folder.is_dir():
        raise OptionError(f"{option} {path}: there is no folder {folder}; create it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OptionError(
            f"{option} {path}: {folder} cannot be written ({error.strerror}); choose another folder"
        ) from error
    if path.exists() and not overwrite:
        raise OptionError(f"{option} {path}: exists already; give another name, or --overwrite")
