"""Writing so that a file is either whole or not there: into a temporary name beside it, then renamed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all.

    Args:
        path: Where; its folder exists.
        content: Bytes, or text that is encoded as UTF-8.

    Raises:
        OSError: The disk is full or the folder cannot be written; the temporary file is removed and an older file of that
            name is untouched. The error carries the name of the file.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
