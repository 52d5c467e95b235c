"""Locks that allow one run at a time in a folder. A lock ends with its process, in any way, and names its holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from mlff_calc.errors import MLFFError, SimulationError

logger = logging.getLogger(__name__)

LOCK = ".lock"
_LONGEST_NOTE = 4096  # bytes of a lock file that are read for the name of its holder
_NOT_GIVEN = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)
"""Error numbers of file systems that lack locks of the requested kind."""


class FolderLock:
    """A held lock, created by `folder_lock`."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder, self.file, self._descriptor = folder, folder / LOCK, descriptor
        self._identity = _identity(os.fstat(descriptor))
        self._place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # while open, no other gets its number
        self._place_identity = _identity(os.fstat(self._place))
        self._process = os.getpid()

    def is_in_place(self) -> bool:
        """Whether the path still leads to the locked folder and its lock file; other processes may ask as well."""
        return _is(self.folder, self._place_identity) and _is(self.file, self._identity)

    def keep(self) -> bool:
        """Whether the run may continue to write: `is_in_place`, or only the lock file was removed and is created again.

        If another lock file took its place, another run may have been here, and the answer is no. Child processes of
        the one that locked the folder create nothing: for them it is enough that there is no other lock file.
        """
        if self.is_in_place():
            return True
        if not _is(self.folder, self._place_identity):
            return False
        if os.getpid() != self._process:
            return not os.path.lexists(self.file)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(LOCK, flags, 0o666, dir_fd=self._place)
        except OSError:
            return False
        try:
            held = _take(descriptor, self.folder)
        except OSError:
            held = False
        if not held:
            os.close(descriptor)
            return False
        _leave_note(descriptor)
        os.close(self._descriptor)
        self._descriptor, self._identity = descriptor, _identity(os.fstat(descriptor))
        logger.warning("%s was removed during the run; it was created again, and the run continues", self.file)
        return True

    def whereabouts(self) -> Path | None:
        """Return the present path of the locked folder if the system knows it; None where it was removed."""
        try:
            if _identity(os.fstat(self._place)) != self._place_identity:
                return None  # another process, in which the folder is not open
        except OSError:
            return None
        return path_of(self._place)

    def release(self) -> None:
        """Release the folder."""
        os.close(self._descriptor)
        os.close(self._place)


def _is(path: Path, identity: tuple[int, int]) -> bool:
    try:
        return _identity(path.stat()) == identity
    except OSError:
        return False


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
    """Return the identity of a file, which differs for a later file at its path; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def path_of(descriptor: int) -> Path | None:
    """Return the present path of an open file if the system knows it (Linux); None if not, or if the file was removed."""
    try:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return None
    return path if same_file(path, descriptor) else None


@contextlib.contextmanager
def folder_lock(folder: Path, *, error: type[MLFFError] = SimulationError) -> Iterator[FolderLock]:
    """Lock a folder for one run; the lock ends with the process.

    Where the file system has no `flock`, a record lock (`lockf`) is used, which stops only other processes. Where it
    has neither, a warning is logged and nothing is locked.

    A run must read the folder's contents under the lock if its decisions depend on them, since another run may have
    changed them.

    Args:
        folder: existing folder.
        error: class of the error where the folder cannot be locked.

    Yields:
        The lock.

    Raises:
        MLFFError: (of class `error`) another process runs in this folder, or the system refuses the lock.
    """
    descriptor = _open_locked(folder / LOCK, f"is running in {folder}", error)
    _leave_note(descriptor)
    try:
        lock = FolderLock(folder, descriptor)
    except OSError as refusal:
        os.close(descriptor)
        raise error(f"cannot open {folder}: {refusal.strerror}. Choose an output folder that you may read.") from refusal
    try:
        yield lock
    finally:
        lock.release()


@contextlib.contextmanager
def output_lock(output: Path, *, error: type[MLFFError] = SimulationError) -> Iterator[None]:
    """Lock the files that a command writes beside each other, such as NAME.extxyz and NAME.traj, for one process.

    The lock is a hidden file beside them, which is removed at the end.

    Args:
        output: one of the files in an existing folder; all files of the same name up to the suffix are locked.
        error: class of the error where they cannot be locked.

    Yields:
        Nothing.

    Raises:
        MLFFError: (of class `error`) another process writes them, or the system refuses the lock.
    """
    path = output.with_name(f".{output.stem}{LOCK}")
    descriptor = _open_locked(path, f"is writing {output}", error)
    try:
        _leave_note(descriptor)
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is released, so that a waiting process notices
        os.close(descriptor)


def _leave_note(descriptor: int) -> None:
    note = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now().astimezone().isoformat(" ", "seconds")}
    with contextlib.suppress(OSError):  # a full disk prevents the note, not the lock
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
            held = _take(descriptor, path.parent)
        except OSError as refusal:
            os.close(descriptor)
            raise error(
                f"the file system of {path.parent} refuses a lock ({refusal.strerror}), so that two runs could spoil each "
                "other. Choose an output folder on another disk."
            ) from refusal
        if not held:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise error(f"another process {what}{holder}. Wait until it ends, or choose another output.")
        if same_file(path, descriptor):
            return descriptor
        os.close(descriptor)  # removed between opening and locking, so that lock would stop nobody


def _take(descriptor: int, folder: Path) -> bool:
    """Lock an open file; returns False where another process holds it, and warns where there are no locks.

    Raises:
        OSError: the system refuses for another reason.
    """
    for take in (fcntl.flock, fcntl.lockf):
        try:
            take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as refusal:
            if refusal.errno in (errno.EAGAIN, errno.EACCES):
                return False
            if refusal.errno not in _NOT_GIVEN:
                raise
        else:
            return True
    logger.warning(
        "the file system of %s has no locks, so nothing prevents a second run there while this one writes; start none, or "
        "choose an output folder on another disk",
        folder,
    )
    return True


def _holder(descriptor: int) -> str:
    """Describe the writer of the note in the lock; empty where it cannot be read."""
    try:
        note = json.loads(os.pread(descriptor, _LONGEST_NOTE, 0))
        return f" (process {int(note['pid'])} on {note['host']}, since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
