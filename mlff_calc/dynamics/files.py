"""Files that are complete at every moment, since they are replaced atomically, or appended to and truncated."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from mlff_calc.errors import SimulationError
from mlff_calc.locks import same_file
from mlff_calc.whole_files import write_whole

RESUME = "Free space or choose another disk, then go on with --resume."
_PIECE = 64 * 1024 * 1024  # bytes read at once; a larger value takes more memory, and one system call reads at most 2 GiB


def free_name(path: Path, suffix: str = "") -> Path:
    """Return an unused name in the folder of a path, for data that are rescued.

    Args:
        path: File or folder whose own name is taken.
        suffix: End of its name that the new name keeps, such as `.traj`.
    """
    stem, number = path.name.removesuffix(suffix), 1
    while (place := path.with_name(f"{stem}.rescued{number}{suffix}")).exists():
        number += 1
    return place


def write_atomically(path: Path, content: bytes | Iterable[bytes], *, sync: bool = True) -> None:
    """Write a file so that it holds either the old or the new content at every moment, even if the process is killed.

    Args:
        path: File to write.
        content: New content of the file, or pieces of it.
        sync: Whether to wait until the content is on the disk, so that it survives a power cut as well.

    Raises:
        SimulationError: The disk refuses (full, read-only, quota). The file then keeps its old content.
    """
    try:
        write_whole(path, content, sync=sync)
    except OSError as error:
        raise write_failure(path, error) from error


def copy_atomically(descriptor: int, size: int, path: Path) -> None:
    """Copy the beginning of an open file, which may have been deleted, to another path atomically.

    Args:
        descriptor: Descriptor of the open file.
        size: Number of bytes to copy.
        path: New file, which is on the disk when this returns.

    Raises:
        SimulationError: The disk refuses, or the open file is shorter. An older file at `path` is then unchanged.
    """
    write_atomically(path, _pieces(descriptor, size))


def _pieces(descriptor: int, size: int) -> Iterator[bytes]:
    done = 0
    while done < size:
        piece = os.pread(descriptor, min(_PIECE, size - done), done)
        if not piece:
            raise OSError(errno.EIO, f"the open file that it is copied from ends after {done} of {size} bytes")
        done += len(piece)
        yield piece


def reason(error: OSError) -> str:
    """Return the message of the operating system; errors of numpy hold only the count of numbers written."""
    return error.strerror or f"the disk is full or the file too large ({error})"


def write_failure(path: Path, error: OSError, *, cure: str = RESUME) -> SimulationError:
    """Return the error to raise for a write that the operating system refused.

    Args:
        path: File that was being written.
        error: Error of the operating system.
        cure: Advice for the user; the default is for runs.

    Returns:
        An error with the cure, to be raised from `error`.
    """
    return SimulationError(f"cannot write {path}: {reason(error)}. What was written before is whole. {cure}")


class AppendedFile:
    """A file that grows by whole records and can be truncated to an earlier length.

    Each record is handed to the operating system immediately, so that no record is lost if the process is killed. A record
    that did not fit on the disk is removed again.
    """

    def __init__(self, path: Path) -> None:
        """Open the file for appending, and create it if it does not exist."""
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise write_failure(path, error) from error

    def size(self) -> int:
        """Length in bytes."""
        return os.fstat(self._descriptor).st_size

    def append(self, record: bytes) -> None:
        """Append one record.

        Args:
            record: Bytes of the record.

        Raises:
            SimulationError: The disk refuses. The file is then unchanged.
        """
        before = self.size()
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise write_failure(self.path, error) from error

    def cut(self, size: int) -> None:
        """Truncate the file to an earlier length.

        Args:
            size: Length in bytes.

        Raises:
            SimulationError: The file is shorter than that.
        """
        if self.size() < size:
            raise SimulationError(
                f"{self.path} has {self.size()} bytes, and the saved state says {size}: it was changed since. "
                "Put the file back, or start over with --overwrite."
            )
        os.ftruncate(self._descriptor, size)

    def is_in_place(self) -> bool:
        """Whether the path still leads to the open file."""
        return same_file(self.path, self._descriptor)

    def rescue(self, path: Path) -> None:
        """Copy the content of the open file, which may have been deleted, to another path atomically.

        Args:
            path: New file.

        Raises:
            SimulationError: The disk refuses.
        """
        copy_atomically(self._descriptor, self.size(), path)

    def sync(self) -> None:
        """Wait until the file is on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> AppendedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
