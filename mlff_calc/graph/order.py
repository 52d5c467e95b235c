"""Sorting rows of integers, by one packed number per row where it fits in 64 bits (fast), otherwise by columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def packed(columns: Sequence[IntArray]) -> IntArray | None:
    """Pack each row into one number that sorts like the row.

    Args:
        columns: arrays [n], n > 0, most significant first.

    Returns:
            Numbers [n], equal where rows are equal; None where the ranges of the columns together exceed 64 bits.
    """
    lows = [int(column.min()) for column in columns]
    spans = [int(column.max()) - low + 1 for column, low in zip(columns, lows, strict=True)]
    room = 1
    for span in spans:
        room *= span
    if room >= 2**62:
        return None
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for column, low, span in zip(columns, lows, spans, strict=True):
        key *= span
        key += column
        key -= low
    return key


def lexicographic(columns: Sequence[IntArray]) -> NDArray[np.intp]:
    """Return the order [n] that sorts distinct rows.

    Args:
        columns: arrays [n], most significant first.
    """
    if len(columns[0]) == 0:
        return np.zeros(0, dtype=np.intp)
    key = packed(columns)
    return np.lexsort(tuple(reversed(columns))) if key is None else np.argsort(key)


def distinct_rows(rows: IntArray) -> tuple[IntArray, NDArray[np.intp]]:
    """Find the distinct rows of a table.

    Args:
        rows: table [n, k].

    Returns:
        The distinct rows [n_distinct, k], sorted, and the index [n] of each row among them (``distinct[which] ==
        rows``).
    """
    if len(rows) == 0:
        return rows, np.zeros(0, dtype=np.intp)
    key = packed([rows[:, k] for k in range(rows.shape[1])])
    if key is None:
        distinct, which = np.unique(rows, axis=0, return_inverse=True)
        return distinct, which.reshape(-1)
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    return rows[first], which
