"""One run at a time in a folder: a lock that ends with its process, however that ends, and says who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from mlff_calc.errors import MLFFError, SimulationError

LOCK = ".lock"
_LONGEST_NOTE = 4096


class FolderLock:
    """A lock that is held; made by `folder_lock`."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder, self.file, self._descriptor = folder, folder / LOCK, descriptor
        self._identity = _identity(os.fstat(descriptor))

    def is_in_place(self) -> bool:
        """Whether the folder's path still leads to the folder that was locked; other processes may ask as well."""
        try:
            return _identity(self.file.stat()) == self._identity
        except OSError:
            return False

    def whereabouts(self) -> Path | None:
        """Where the locked folder is now, if the system tells; None where it was removed."""
        try:
            if _identity(os.fstat(self._descriptor)) != self._identity:
                return None  # asked in another process, to which the file is not open
        except OSError:
            return None
        place = path_of(self._descriptor)
        return None if place is None else place.parent


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def same_file(path: Path, descriptor: int) -> bool:
    """Whether a path leads to the file that is open under a descriptor."""
    try:
        there, held = path.stat(), os.fstat(descriptor)
    except OSError:
        return False
    return _identity(there) == _identity(held)


def file_mark(path: Path) -> tuple[int, ...] | None:
    """What tells a file from another that was written to its path later; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def path_of(descriptor: int) -> Path | None:
    """The present path of an open file, where the system tells (Linux); None where it does not, or the file is removed."""
    try:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return None
    return path if same_file(path, descriptor) else None


@contextlib.contextmanager
def folder_lock(folder: Path, *, error: type[MLFFError] = SimulationError) -> Iterator[FolderLock]:
    """Hold a folder for one run; the lock ends with the process, however it ends.

    What a run decides by the contents of a folder it reads under the lock: what it saw before may be another run's past.

    Args:
        folder: an existing folder.
        error: class of the error where the folder cannot be held.

    Yields:
        The lock.

    Raises:
        MLFFError: (of class `error`) another process runs in this folder, or the system gives no lock.
    """
    descriptor = _open_locked(folder / LOCK, f"is running in {folder}", error)
    try:
        _leave_note(descriptor)
        yield FolderLock(folder, descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def output_lock(output: Path, *, error: type[MLFFError] = SimulationError) -> Iterator[None]:
    """Hold the files that a command writes beside each other, such as NAME.extxyz and NAME.traj, for one process.

    The lock is a hidden file beside them, which is removed in the end.

    Args:
        output: one of the files; those of the same name up to the suffix are held. Its folder exists.
        error: class of the error where they cannot be held.

    Yields:
        Nothing.

    Raises:
        MLFFError: (of class `error`) another process writes them, or the system gives no lock.
    """
    path = output.with_name(f".{output.stem}{LOCK}")
    descriptor = _open_locked(path, f"is writing {output}", error)
    try:
        _leave_note(descriptor)
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is let go: who waits for this one finds that it is no longer there
        os.close(descriptor)


def _leave_note(descriptor: int) -> None:
    note = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now().astimezone().isoformat(" ", "seconds")}
    with contextlib.suppress(OSError):  # a full disk takes the note away, not the lock
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)


def _open_locked(path: Path, what: str, error: type[MLFFError]) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as refusal:
            raise error(
                f"cannot write {path}: {refusal.strerror}. Choose an output folder that you may write to."
            ) from refusal
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise error(
                f"another process {what}{holder}. Wait until it ends, or choose another output."
            ) from None
        except OSError as refusal:
            os.close(descriptor)
            raise error(
                f"the file system of {path.parent} gives no locks ({refusal.strerror}), so that two runs could spoil each "
                "other. Choose an output folder on another disk."
            ) from refusal
        if same_file(path, descriptor):
            return descriptor
        os.close(descriptor)  # removed between opening and locking: that lock would hold nobody off


def _holder(descriptor: int) -> str:
    """Who wrote the note in the lock, as words; nothing where it cannot be read."""
    try:
        note = json.loads(os.pread(descriptor, _LONGEST_NOTE, 0))
        return f" (process {int(note['pid'])} on {note['host']}, since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
