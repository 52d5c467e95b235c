"""Orders of rows of integers, by one number per row where it fits in 64 bits (fast), by columns where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def packed(columns: Sequence[IntArray]) -> IntArray | None:
    """One number per row that sorts as the rows do.

    Args:
        columns: arrays [n], n > 0, the most significant first.

    Returns:
        [n], equal where rows are equal; None where the ranges of the columns together exceed 64 bits.
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
    """The order [n] that sorts distinct rows.

    Args:
        columns: arrays [n], the most significant first.
    """
    if len(columns[0]) == 0:
        return np.zeros(0, dtype=np.intp)
    key = packed(columns)
    return np.lexsort(tuple(reversed(columns))) if key is None else np.argsort(key)


def distinct_rows(rows: IntArray) -> tuple[IntArray, NDArray[np.intp]]:
    """The different rows of a table, and which of them each row is.

    Args:
        rows: [n, k].

    Returns:
        [n_distinct, k], sorted, and [n] with ``distinct[which] == rows``.
    """
    if len(rows) == 0:
        return rows, np.zeros(0, dtype=np.intp)
    key = packed([rows[:, k] for k in range(rows.shape[1])])
    if key is None:
        distinct, which = np.unique(rows, axis=0, return_inverse=True)
        return distinct, which.reshape(-1)
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    return rows[first], which
