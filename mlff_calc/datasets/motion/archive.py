"""Archives of numpy arrays, read with errors that name the file and the key."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError


def archive_keys(path: Path) -> set[str]:
    """Names of the arrays in an archive; none of them is read.

    Args:
        path: the file.

    Returns:
        The names.

    Raises:
        DatasetError: not an npz archive, or an incomplete one.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return set(archive.files)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read as an npz archive ({error}); is it complete?") from error


def read_arrays(path: Path, names: list[str]) -> dict[str, NDArray]:
    """Some arrays of an archive.

    Args:
        path: the file.
        names: which.

    Returns:
        The arrays by name.

    Raises:
        DatasetError: unreadable, or an array is not there.
    """
    missing = sorted(set(names) - archive_keys(path))
    if missing:
        raise DatasetError(f"{path} lacks the arrays {missing}; write the file again")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read as an npz archive ({error}); is it complete?") from error
