"""Files that are whole at every moment: replaced atomically, or appended to and cut back."""

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
_PIECE = 64 * 1024 * 1024  # bytes read at once; one call to the system reads at most 2 GiB, whatever is asked for


def free_name(path: Path, suffix: str = "") -> Path:
    """A name beside a path that nothing has, for what is rescued.

    Args:
        path: the file or folder whose own name is taken.
        suffix: end of its name that stays the end, such as `.traj`.
    """
    stem, number = path.name.removesuffix(suffix), 1
    while (place := path.with_name(f"{stem}.rescued{number}{suffix}")).exists():
        number += 1
    return place


def write_atomically(path: Path, content: bytes | Iterable[bytes], *, sync: bool = True) -> None:
    """Write a file so that a reader, or a kill, sees the old content or the new one and nothing between.

    Args:
        path: the file.
        content: its new content, or pieces of it.
        sync: wait until it is on the disk, so that it survives a power cut as well.

    Raises:
        SimulationError: the disk refuses (full, read-only, quota); the old content is still there.
    """
    try:
        write_whole(path, content, sync=sync)
    except OSError as error:
        raise write_failure(path, error) from error


def copy_atomically(descriptor: int, size: int, path: Path) -> None:
    """Write the beginning of an open file, of any length, to another path atomically; the open file may be deleted by now.

    Args:
        descriptor: the open file.
        size: how much of it, bytes.
        path: the new file, which is on the disk afterwards.

    Raises:
        SimulationError: the disk refuses, or the open file is shorter; what was at `path` is still there.
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
    """What the operating system said; numpy's writes keep only how many numbers it took."""
    return error.strerror or f"the disk is full or the file too large ({error})"


def write_failure(path: Path, error: OSError, *, cure: str = RESUME) -> SimulationError:
    """The error for a write that the operating system refused.

    Args:
        path: what was being written.
        error: what it said.
        cure: what helps; by default that of a run.

    Returns:
        An error with the cure, caused by `error` where it is raised from it.
    """
    return SimulationError(f"cannot write {path}: {reason(error)}. What was written before is whole. {cure}")


class AppendedFile:
    """A file that grows by whole records and can be cut back to an earlier length.

    Every record goes to the operating system at once, so that killing the process loses none; a record that did not fit
    on the disk is cut off again.
    """

    def __init__(self, path: Path) -> None:
        """Open the file for appending; it is made where there is none."""
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
            record: its bytes.

        Raises:
            SimulationError: the disk refuses; the file is as it was before.
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
        """Cut back to an earlier length, bytes.

        Args:
            size: the length.

        Raises:
            SimulationError: the file is shorter than that.
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
        """Write what the open file holds to another path, atomically; the open file may be deleted by now.

        Args:
            path: the new file.

        Raises:
            SimulationError: the disk refuses.
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
