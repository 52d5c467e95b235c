"""The list of exported files that this user wrote and may open without further trust.

An exported file is code: a `.pt2` holds a library that runs when it is loaded, and a TorchScript program can write
files. The user's exports are known by their SHA-256, each as an empty file of this name in the cache. Whoever can write
in that folder could add names to it, so a folder that others can write is refused, not repaired and used.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from mlff_calc.caches import cache_dir, digest_of, is_own, private_dir
from mlff_calc.errors import CacheError, PotentialFileError

logger = logging.getLogger(__name__)


def own_exports_dir() -> Path:
    """Return the folder of the record of exported files."""
    return cache_dir("exports")


def enter(file: Path) -> None:
    """Add a file that this user wrote to the record. Where that fails, a warning is logged and the file is kept."""
    try:
        folder = private_dir(own_exports_dir(), close=False)
        os.close(os.open(folder / digest_of(file), os.O_CREAT | os.O_WRONLY, 0o600))
    except (CacheError, OSError) as error:
        logger.warning("the record of exported files cannot be written (%s); loading %s requires trust", error, file.name)


def require_own(path: Path, content: bytes) -> None:
    """Check that this user exported a file.

    Raises:
        PotentialFileError: the content is not in the user's record.
        CacheError: the record belongs to another user, or others may write in it.
    """
    folder = own_exports_dir()
    if folder.is_dir():
        try:
            private_dir(folder, close=False)
        except CacheError as error:
            raise CacheError(
                f"{path} cannot be looked up: {error}. If you trust the writer of the file, pass trust=True (in Python) or "
                "--trust (on the command line)"
            ) from error
        if is_own(folder / hashlib.sha256(content).hexdigest()):
            return
    raise PotentialFileError(
        f"{path} holds code that would run as yours, and it is not a file that you exported here: if you trust its writer, "
        "pass trust=True (in Python) or --trust (on the command line); otherwise export the potential yourself"
    )
