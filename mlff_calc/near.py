"""Suggestions for unknown names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name most similar to `name`; None where none is similar enough.

    Args:
        name: Name as written.
        known: Valid names.
        cutoff: Smallest similarity that counts, 0 to 1; raising it gives fewer suggestions.
    """
    return next(iter(get_close_matches(str(name), list(known), n=1, cutoff=cutoff)), None)


def suggestion(name: object, known: Iterable[str], before: str = "", after: str = "") -> str:
    """Return `did you mean 'x'?` between two pieces of punctuation; empty where no name is similar."""
    near = nearest(name, known)
    return f"{before}did you mean {near!r}?{after}" if near is not None else ""
