"""Caches of results that can be made again, and the rules for using an entry.

A cache holds code that runs. An entry is used only if it belongs to the user or to root, nobody else can write it, and
its content matches the SHA-256 beside it; otherwise it is made again. Root is trusted as for the installed packages, so
that a container image may bring a cache, which is then only read. This file imports nothing heavy, since LAMMPS uses it
at its start.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from mlff_calc.errors import CacheError

SEAL = ".sha256"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_dir(part: str) -> Path:
    """Return folder `part` of the cache: below `$MLFF_CACHE`, or `mlff_calc` below `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        CacheError: none of these variables is set, and the user has no home folder.
    """
    if "MLFF_CACHE" in os.environ:
        return Path(os.environ["MLFF_CACHE"]) / part
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "mlff_calc" / part
    try:
        home = Path.home()
    except RuntimeError as error:  # no HOME and no entry for the user, as in containers
        raise CacheError(
            f"this user (uid {os.geteuid()}) has no home folder to keep a cache in; set MLFF_CACHE to a folder of your own"
        ) from error
    return home / ".cache" / "mlff_calc" / part


def private_dir(folder: Path, *, close: bool = True) -> Path:
    """Return a folder in which only this user and root can write, creating it if necessary.

    Args:
        folder: folder of entries.
        close: whether to remove the write permission of others if the folder is this user's own and not a link; older
            versions created such folders. Safe only if every entry is checked by `is_sealed`, since others may have
            added entries.

    Raises:
        CacheError: the folder belongs to another user, or others may write in it and that may not or cannot be changed.
        OSError: the folder cannot be created.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if close:
        _close(folder)
    trouble = _trouble(folder)
    if trouble is not None:
        raise CacheError(
            f"the cache {folder} {trouble}, and what others put there would run as your code; set MLFF_CACHE to a "
            "folder of your own, or remove this one"
        )
    return folder


def _close(folder: Path) -> None:
    """Remove the write permission of others from this user's own folder; links are not changed."""
    if folder.is_symlink() or not folder.stat().st_mode & _OTHERS_WRITE:
        return
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)  # checks and changes the same folder
    except OSError:
        return  # the caller reports the fault
    try:
        found = os.fstat(opened)
        if found.st_uid == os.geteuid():
            os.fchmod(opened, stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE)
    except OSError:
        return  # the caller reports the fault
    finally:
        os.close(opened)


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(file: Path) -> None:
    """Remove write permission from everybody except the owner, and write the file's SHA-256 beside it."""
    beside = file.with_name(file.name + SEAL)
    beside.write_text(digest_of(file) + "\n", encoding="ascii")
    for path in (file, beside):
        path.chmod(path.stat().st_mode & ~_OTHERS_WRITE)


def is_own(file: Path) -> bool:
    """Whether a file exists, is not a link, belongs to this user or root, and cannot be written by others."""
    try:
        return file.is_file() and not file.is_symlink() and _trouble(file) is None
    except OSError:
        return False


def is_sealed(file: Path) -> bool:
    """Whether a file and its seal exist, satisfy `is_own`, and agree."""
    beside = file.with_name(file.name + SEAL)
    try:
        if not (is_own(file) and is_own(beside)):
            return False
        return beside.read_text(encoding="ascii").strip() == digest_of(file)
    except (OSError, ValueError):
        return False


def _trouble(path: Path) -> str | None:
    """Reason why a file or folder cannot be trusted, as the end of a sentence; None if it can."""
    found = path.stat()
    if found.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user (uid {found.st_uid})"
    if found.st_mode & _OTHERS_WRITE:
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):o})"
    return None
