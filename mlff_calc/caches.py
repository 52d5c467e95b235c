"""Where results that can be made anew are kept, and which of them may be used again.

A cache holds code that runs. An entry is used only where it belongs to the user, nobody else can write it, and its content
matches the SHA-256 kept beside it; otherwise it is made anew. This file imports nothing heavy, since LAMMPS's program asks
it when it starts.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from mlff_calc.errors import CacheError

SEAL = ".sha256"


def cache_dir(part: str) -> Path:
    """Folder `part` of the cache: below `$MLFF_CACHE`, or `mlff_calc` below `$XDG_CACHE_HOME` or `~/.cache`."""
    if "MLFF_CACHE" in os.environ:
        return Path(os.environ["MLFF_CACHE"]) / part
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "mlff_calc" / part


def private_dir(folder: Path) -> Path:
    """The folder, made where there is none, for this user alone.

    Raises:
        CacheError: it belongs to another user, others may write in it, or it is no folder.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    trouble = _trouble(folder)
    if trouble is not None:
        raise CacheError(
            f"the cache {folder} {trouble}, and what others put there would run as code of yours; set MLFF_CACHE to a "
            "folder of your own, or correct its owner and permissions"
        )
    return folder


def digest_of(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(file: Path) -> None:
    """Take a file's permission to be written from everybody but its owner, and write its SHA-256 beside it."""
    beside = file.with_name(file.name + SEAL)
    beside.write_text(digest_of(file) + "\n", encoding="ascii")
    for path in (file, beside):
        path.chmod(path.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))


def is_own(file: Path) -> bool:
    """Whether a file is there, is no link, belongs to this user, and cannot be written by others."""
    try:
        return file.is_file() and not file.is_symlink() and _trouble(file) is None
    except OSError:
        return False


def is_sealed(file: Path) -> bool:
    """Whether a file and its seal are there, are this user's own, cannot be written by others, and agree."""
    beside = file.with_name(file.name + SEAL)
    try:
        if not (is_own(file) and is_own(beside)):
            return False
        return beside.read_text(encoding="ascii").strip() == digest_of(file)
    except (OSError, ValueError):
        return False


def _trouble(path: Path) -> str | None:
    """Why a file or folder cannot be relied on, as the end of a sentence; None where it can."""
    found = path.stat()
    if found.st_uid != os.geteuid():
        return f"belongs to another user (uid {found.st_uid})"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):o})"
    return None
