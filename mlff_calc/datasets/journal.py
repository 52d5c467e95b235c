"""A file of records that only grows, and loses no record of which `append` has returned.

A record is its length, a checksum of its content, a checksum of these two, and the content. A kill while a record is
written leaves a part of it at the end, which is cut off when the file is opened again. The first record is made together
with the file.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from mlff_calc.bounded import require_regular
from mlff_calc.errors import DatasetError
from mlff_calc.whole_files import write_whole

MAGIC = b"mlff journal 1\n\0"
_HEAD = struct.Struct("<QII")


class Journal:
    """An open file of records; one process may hold it at a time, which is for the caller to see to.

    Args:
        path: File, made by `create`.

    Attributes:
        path: The file.
        lost: Number of bytes of an unfinished record that were cut off.

    Raises:
        DatasetError: The file is missing, of another kind, or damaged before its end.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lost = path, 0
        require_regular(path, DatasetError)
        self._file: IO[bytes] = path.open("r+b", buffering=0)
        try:
            self._places, end = _scan(self._file, path)
            self.lost = os.fstat(self._file.fileno()).st_size - end
            if self.lost:
                self._file.truncate(end)
                os.fsync(self._file.fileno())
        except BaseException:
            self._file.close()
            raise
        self._end = end

    @classmethod
    def create(cls, path: Path, first: bytes) -> Self:
        """Make a file with its first record; an existing one is replaced.

        Raises:
            OSError: The file cannot be written.
        """
        write_whole(path, [MAGIC, _record(first)])
        return cls(path)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> bytes:
        """Read a record.

        Raises:
            IndexError: There is no such record.
            DatasetError: The file was changed.
        """
        place, length = self._places[number]
        content = os.pread(self._file.fileno(), length, place)
        if len(content) != length:
            raise DatasetError(f"{self.path} was shortened while it was read; start again")
        return content

    def append(self, content: bytes, *, sync: bool = True) -> None:
        """Add a record. When this returns, no kill can lose the record.

        Args:
            content: The record.
            sync: Whether it is on the disk as well when this returns, so that no power cut can lose it.

        Raises:
            OSError: The disk is full, or the file cannot be written; no part of the record stays.
        """
        record = memoryview(_record(content))
        descriptor = self._file.fileno()
        try:
            done = 0
            while done < len(record):
                done += os.pwrite(descriptor, record[done:], self._end + done)
            if sync:
                os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, self._end)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._places.append((self._end + _HEAD.size, len(content)))
        self._end += len(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _record(content: bytes) -> bytes:
    checksum = zlib.crc32(content)
    return _HEAD.pack(len(content), checksum, _check(len(content), checksum)) + content


def _check(length: int, checksum: int) -> int:
    """Checksum of the head of a record, so that a damaged length is not taken for the end of the file."""
    return zlib.crc32(struct.pack("<QI", length, checksum))


def _scan(file: IO[bytes], path: Path) -> tuple[list[tuple[int, int]], int]:
    """Find the places and lengths of all records, and the end of the last whole one."""
    if file.read(len(MAGIC)) != MAGIC:
        raise DatasetError(f"{path} is not a journal of this package; it begins otherwise. Move it away")
    size, end, places = os.fstat(file.fileno()).st_size, len(MAGIC), []
    while end < size:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            break
        length, checksum, check = _HEAD.unpack(head)
        place = end + _HEAD.size
        if check != _check(length, checksum):
            if any(head) or any(file.read(size - place)):  # a power cut leaves zeros where nothing was written
                raise _damaged(path, end)
            break
        if place + length > size:
            break
        if zlib.crc32(file.read(length)) != checksum:
            if place + length < size:
                raise _damaged(path, end)
            break
        places.append((place, length))
        end = place + length
    if not places:
        raise DatasetError(f"{path} holds no whole record; remove it")
    return places, end


def _damaged(path: Path, place: int) -> DatasetError:
    return DatasetError(
        f"{path} is damaged at byte {place}, before its end, and records after that place would be lost; restore the file "
        "from a copy, or move it away and begin anew"
    )
