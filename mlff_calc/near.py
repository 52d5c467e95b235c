"""Suggestions for names that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that resembles `name` most; None where none does.

    Args:
        name: What was written.
        known: Names that there are.
        cutoff: Smallest similarity that counts, 0 to 1; higher values suggest less.
    """
    return next(iter(get_close_matches(str(name), list(known), n=1, cutoff=cutoff)), None)


def suggestion(name: object, known: Iterable[str], before: str = "", after: str = "") -> str:
    """`did you mean 'x'?` between two pieces of punctuation; empty where nothing resembles `name`."""
    near = nearest(name, known)
    return f"{before}did you mean {near!r}?{after}" if near is not None else ""
