"""Atomic writing of files: a temporary file beside the target is renamed, so that no partial file is ever visible."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path, whose file replaces `path` when the block ends without an error.

    A reader always sees either the old file or the complete new one, even after a kill.

    Args:
        path: Target file in an existing folder.
        sync: Whether to wait until the file is on the disk, so that it also survives a power cut.

    Yields:
        Path to write to. After an error the temporary file is removed and `path` is unchanged.

    Raises:
        OSError: The file cannot be written (disk full, read-only, quota).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
        if sync:
            _sync(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes | str | Iterable[bytes], *, sync: bool = True) -> None:
    """Write a file atomically.

    Args:
        path: Target file in an existing folder.
        content: Bytes, pieces of bytes, or text to encode as UTF-8.
        sync: Whether to wait until the file is on the disk.

    Raises:
        OSError: The file cannot be written; an older file of that name is unchanged. The error carries the file's name.
    """
    if isinstance(content, str):
        content = content.encode("utf-8")
    try:
        with replacing(path, sync=sync) as temporary, temporary.open("wb") as stream:
            stream.writelines([content] if isinstance(content, bytes) else content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def leftovers(folder: Path, names: Iterable[str]) -> list[Path]:
    """List temporary files of processes that were killed while writing.

    Args:
        folder: Folder of the files.
        names: Names or patterns of the target files.

    Returns:
        Paths of the temporary files.
    """
    return [path for name in names for path in folder.glob(f".{name}.*.tmp")]


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
