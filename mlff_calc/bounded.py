"""Safe reading of foreign files: regular files only, of limited size, and JSON of limited depth."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from mlff_calc.errors import MLFFError

MEBI = 1 << 20  # bytes in a MiB
MAX_DEPTH = 100
"""Largest depth of nesting in JSON and YAML; files of this package have fewer than ten levels."""


def require_regular(path: str | os.PathLike[str], error: type[MLFFError], limit: int | None = None) -> Path:
    """Return the path of a regular file; pipes and devices, which may never end, are not opened.

    Args:
        path: File.
        error: Class of the raised error.
        limit: Largest size in bytes; None for no limit.

    Raises:
        MLFFError: (of class `error`) the path does not exist, is not a regular file, or is larger than `limit`.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as reason:  # a ValueError comes from NUL bytes
        why = getattr(reason, "strerror", None) or str(reason)
        raise error(f"{os.fspath(path)!r} cannot be read ({why}); correct the path") from reason
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
        raise error(f"{os.fspath(path)} is {kind}, but a file is needed; copy its content to a file, or correct the path")
    if limit is not None and found.st_size > limit:
        raise error(
            f"{os.fspath(path)} has {found.st_size} bytes, but such a file has at most {limit}; is it the right file?"
        )
    return Path(path)


def read_text(path: str | os.PathLike[str], error: type[MLFFError], limit: int = 16 * MEBI) -> str:
    """Read the text of a regular file of at most `limit` bytes.

    Raises:
        MLFFError: (of class `error`) see `require_regular`; also raised where the file is not readable or not UTF-8.
    """
    file = require_regular(path, error, limit)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as reason:
        why = getattr(reason, "strerror", None) or str(reason)
        raise error(f"{file} cannot be read as text ({why}); check its permissions, and whether it is complete") from reason


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:  # noqa: ANN401
    """Parse JSON text.

    Args:
        text: JSON text.
        finite: Whether to refuse NaN, Infinity and numbers too large for a float.

    Raises:
        ValueError: the text is not JSON, is nested deeper than `MAX_DEPTH`, or has a number that is not finite.
    """
    options: dict[str, Any] = {"parse_constant": _refuse, "parse_float": _finite} if finite else {}
    try:
        data = json.loads(text, **options)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    level, depth = [data], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH + 1:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        parts = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for part in parts for each in part if isinstance(each, dict | list)]
    return data


def shorten(value: object, length: int = 80) -> str:
    """Quote a value for a message, shortened to `length` characters."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def _refuse(word: str) -> float:
    raise ValueError(f"it holds {word}, which is not a number")


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"it holds {word[:40]}, which is too large")
    return number
