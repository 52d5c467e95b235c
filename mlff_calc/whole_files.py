"""Files that are whole or not there: written under a temporary name beside their own, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path whose file takes the place of `path` when the block ends without an error.

    A reader, or a kill at any moment, sees the old file or the new one and nothing between.

    Args:
        path: Where the file belongs; its folder exists.
        sync: Whether to wait until the file is on the disk, so that it survives a power cut as well.

    Yields:
        Path to write to. After an error its file is removed, and what was at `path` is untouched.

    Raises:
        OSError: The disk refuses (full, read-only, quota).
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
    """Write a file whole or not at all.

    Args:
        path: Where the file belongs; its folder exists.
        content: Bytes, pieces of them, or text that is encoded as UTF-8.
        sync: Whether to wait until the file is on the disk.

    Raises:
        OSError: The disk refuses; an older file of that name is untouched. The error carries the name of the file.
    """
    if isinstance(content, str):
        content = content.encode("utf-8")
    try:
        with replacing(path, sync=sync) as temporary, temporary.open("wb") as stream:
            stream.writelines([content] if isinstance(content, bytes) else content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def leftovers(folder: Path, names: Iterable[str]) -> list[Path]:
    """Temporary files of processes that were killed while they wrote.

    Args:
        folder: Folder of the files.
        names: Names of the files, or patterns of such names.

    Returns:
        Their paths.
    """
    return [path for name in names for path in folder.glob(f".{name}.*.tmp")]


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
