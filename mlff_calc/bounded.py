"""Reading what somebody else wrote: regular files only, of a bounded size, and JSON of a bounded depth."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from mlff_calc.errors import MLFFError

MEBI = 1 << 20
MAX_DEPTH = 100
"""Levels of nesting in JSON and YAML; what this package writes has fewer than ten."""


def require_regular(path: str | os.PathLike[str], error: type[MLFFError], limit: int | None = None) -> Path:
    """The path of a regular file; a pipe or a device, which may never end, is not opened.

    Args:
        path: the file.
        error: class of what is raised.
        limit: most bytes it may have; None for any number.

    Raises:
        MLFFError: of the class `error`: no file, another kind of thing than a file, or a larger one.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as reason:  # a ValueError comes from NUL bytes
        why = getattr(reason, "strerror", None) or str(reason)
        raise error(f"{os.fspath(path)!r} cannot be read ({why}); correct the path") from reason
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
        raise error(f"{os.fspath(path)} is {kind}, and a file is needed; copy what it gives to a file, or correct the path")
    if limit is not None and found.st_size > limit:
        raise error(
            f"{os.fspath(path)} has {found.st_size} bytes, and such a file has at most {limit}; is it the right file?"
        )
    return Path(path)


def read_text(path: str | os.PathLike[str], error: type[MLFFError], limit: int = 16 * MEBI) -> str:
    """Text of a regular file of at most `limit` bytes.

    Raises:
        MLFFError: of the class `error`: see `require_regular`; no UTF-8, or not readable.
    """
    file = require_regular(path, error, limit)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as reason:
        why = getattr(reason, "strerror", None) or str(reason)
        raise error(f"{file} cannot be read as text ({why}); check its permissions, and whether it is whole") from reason


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:  # noqa: ANN401
    """What JSON text holds.

    Args:
        text: the text.
        finite: refuse NaN, Infinity and numbers too large for a float.

    Raises:
        ValueError: no JSON, nested deeper than `MAX_DEPTH`, or a number that is not finite; says which.
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
    """A value as a message may quote it."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def _refuse(word: str) -> float:
    raise ValueError(f"it holds {word}, which is no number")


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"it holds {word[:40]}, which is too large")
    return number
