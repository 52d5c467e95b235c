"""Which exported files this user wrote, or may be opened for another reason.

An exported file is code: a `.pt2` holds a library, which runs when it is loaded, and a TorchScript program can write files.
What the user exported is known by its SHA-256, one empty file of this name in the cache for each. Who may write in the
folder of this record may give a file there another name, so that such a folder is refused, and not closed and used.
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
    """Folder of the record of exported files."""
    return cache_dir("exports")


def enter(file: Path) -> None:
    """Put a file that this user wrote into the record. Where it cannot be kept, a warning is logged, and the file stays."""
    try:
        folder = private_dir(own_exports_dir(), close=False)
        os.close(os.open(folder / digest_of(file), os.O_CREAT | os.O_WRONLY, 0o600))
    except (CacheError, OSError) as error:
        logger.warning("the record of exported files cannot be kept (%s); to load %s asks for trust", error, file.name)


def require_own(path: Path, content: bytes) -> None:
    """Refuse what this user did not export.

    Raises:
        PotentialFileError: this content is not in the user's record.
        CacheError: the record belongs to another user, or others may write in it.
    """
    folder = own_exports_dir()
    if folder.is_dir():
        try:
            private_dir(folder, close=False)
        except CacheError as error:
            raise CacheError(
                f"{path} cannot be looked up: {error}. Where you trust who wrote the file, say so with trust=True (in "
                "Python) or --trust (on the command line)"
            ) from error
        if is_own(folder / hashlib.sha256(content).hexdigest()):
            return
    raise PotentialFileError(
        f"{path} holds code that would run as yours, and it is not a file that you exported here: where you trust who wrote "
        "it, say so with trust=True (in Python) or --trust (on the command line); else export the potential yourself"
    )
