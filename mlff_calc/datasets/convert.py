"""Conversion of frames from any files to one file with random access: HDF5, or LMDB in ASE's format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from mlff_calc.datasets.readers import STORED
from mlff_calc.datasets.sample import Sample
from mlff_calc.errors import DatasetError, OptionError
from mlff_calc.whole_files import replacing

_AT_ONCE = 256
"""Number of frames held in memory at once. Raising it makes writing faster and takes more memory."""


def write_frames(path: Path, samples: Iterable[Sample], progress: Callable[[int], None] = lambda count: None) -> int:
    """Write frames to a file atomically.

    Args:
        path: File name with the suffix ``.h5`` (HDF5) or ``.aselmdb`` (LMDB in ASE's format); an existing file is
            replaced at the end.
        samples: Frames; at most a few hundred are held in memory.
        progress: Function that is called with the number of frames written so far.

    Returns:
        Number of frames.

    Raises:
        DatasetError: The suffix is another, there are no frames, a package is missing, or a frame is faulty.
        OSError: The file cannot be written.
    """
    count = 0
    with replacing(path) as temporary:
        try:
            with closing(_writer(path, temporary)) as writer:
                for some in _blocks(samples):
                    writer.write(some)
                    count += len(some)
                    progress(count)
        finally:
            with suppress(OSError):
                temporary.with_name(f"{temporary.name}-lock").unlink(missing_ok=True)
        if count == 0:
            raise DatasetError(f"there is no frame to write to {path}; name other files or another index")
    return count


def check_target(path: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Check, before anything is read, that a file can be written.

    Raises:
        OptionError: The suffix is another, the file exists or is one of the inputs, or its folder cannot be written.
    """
    folder = path.absolute().parent
    if path.suffix not in STORED.values():
        raise OptionError(f"{path}: the name decides the format; give one that ends in {' or '.join(STORED.values())}")
    if path.is_dir():
        raise OptionError(f"{path} is a folder; give the name of a file")
    if any(path.exists() and path.samefile(file) for file in inputs):
        raise OptionError(f"{path} is one of the input files; give another name")
    if path.exists() and not overwrite:
        raise OptionError(f"{path} exists already; give another name, or replace it with --overwrite")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OptionError(f"{path}: the folder {folder} does not exist or cannot be written; create it, or choose another")


def _writer(path: Path, temporary: Path) -> Any:  # noqa: ANN401
    if path.suffix == STORED["hdf5"]:
        from mlff_calc.datasets.hdf5_frames import HDF5Writer

        return HDF5Writer(temporary)
    if path.suffix == STORED["aselmdb"]:
        from mlff_calc.datasets.lmdb_frames import LMDBWriter

        return LMDBWriter(temporary)
    raise DatasetError(f"{path}: the name decides the format; give one that ends in {' or '.join(STORED.values())}")


def _blocks(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    left = iter(samples)
    while block := list(islice(left, _AT_ONCE)):
        yield block
