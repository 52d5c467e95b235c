"""Rows of contiguous data sets of HDF5 files, which are read directly by their place in the file.

That is faster than through HDF5, and needs no open HDF5 file in any process.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

MOST_OPEN = 64
"""Largest number of files that stay open. Raising it saves opening files again where a data set has more of them."""


@dataclass(frozen=True)
class Rows:
    """A contiguous data set: its offset in the file in bytes, number of rows, and shape and dtype of a row."""

    offset: int
    count: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, descriptor: int, start: int, stop: int) -> NDArray[Any]:
        """Read rows `start` to `stop`; raises an OSError where the file ends before."""
        size = self.dtype.itemsize * int(np.prod(self.shape))
        if not 0 <= start <= stop <= self.count:
            raise OSError(f"rows {start} to {stop} of {self.count} are asked for")
        found = os.pread(descriptor, (stop - start) * size, self.offset + start * size)
        if len(found) != (stop - start) * size:
            raise OSError("the file ends before its last row")
        return np.frombuffer(found, dtype=self.dtype).reshape(stop - start, *self.shape)


class _Descriptor:
    """A file that stays open for reading as long as this object exists."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)


@lru_cache(maxsize=MOST_OPEN)
def opened(path: Path, mark: tuple[int, ...]) -> _Descriptor:
    """Open the file with this mark; a DatasetError if another file has replaced it."""
    found = _Descriptor(path)
    if mark_of(os.fstat(found.number)) != mark:  # offsets of another file would give wrong frames
        raise DatasetError(f"{path} was replaced or changed while it was read; start again")
    return found


def mark_of(stat: os.stat_result) -> tuple[int, ...]:
    """Return the identity of a file, to notice that another one took its place."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def rows_of(held: h5py.Dataset, shape: tuple[int, ...], dtype: type) -> Rows:
    """Locate a data set of rows of a shape and dtype; raises a ValueError where its layout is another one."""
    if held.shape[1:] != shape or held.dtype != dtype:
        raise ValueError(f"'{held.name}' has rows of shape {held.shape[1:]} and {held.dtype}, expected {shape}")
    offset = held.id.get_offset()
    if offset is None and held.shape[0]:
        raise ValueError(f"'{held.name}' is compressed or chunked; its rows must be contiguous")
    return Rows(offset or 0, held.shape[0], shape, held.dtype)
