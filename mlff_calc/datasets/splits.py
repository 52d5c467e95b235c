"""Random division of frames, or of compositions with all their frames, into training, validation and test parts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

PARTS = ("train", "valid", "test")


def split_indices(
    n: int,
    train: int | float | None = None,
    valid: int | float | None = None,
    test: int | float | None = None,
    seed: int = 0,
    of: str = "frames",
) -> dict[str, NDArray[np.int64]]:
    """Draw disjoint parts of ``range(n)``.

    Args:
        n: Number of frames, or of other things.
        train: Count (int) or fraction (float, 0 to 1); None for all remaining frames.
        valid: Count or fraction; None for none.
        test: Count or fraction; None for none.
        seed: Seed of the draw; the same seed gives the same parts, independent of numpy's global state.
        of: What is divided, for messages.

    Returns:
        ``train``, ``valid`` and ``test``, each sorted.

    Raises:
        DatasetError: a count or fraction is out of range, there are too few frames, or none is left to train on.
    """
    sizes = {name: _count(value, n, name) for name, value in (("valid", valid), ("test", test))}
    sizes["train"] = n - sum(sizes.values()) if train is None else _count(train, n, "train")
    total = sum(sizes.values())
    if total > n or sizes["train"] < 1:
        asked = ", ".join(f"{name} {sizes[name]}" for name in PARTS)
        why = "nothing is left to train on" if sizes["train"] < 1 else f"that is {total} in all"
        raise DatasetError(f"the split asks for {asked} of {n} {of}: {why}; lower the counts or add {of}")
    order = np.random.default_rng(seed).permutation(n)
    parts, start = {}, 0
    for name in PARTS:
        parts[name] = np.sort(order[start : start + sizes[name]]).astype(np.int64)
        start += sizes[name]
    return parts


def compositions(structures: Iterable[Atoms]) -> NDArray[np.int64]:
    """Number compositions [n_structures] from 0 in the order in which they come."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(one.get_chemical_formula(), len(seen)) for one in structures], dtype=np.int64)


def _count(value: int | float | None, n: int, name: str) -> int:
    """Convert a count or fraction to a number of frames."""
    if value is None:
        return 0
    is_fraction = isinstance(value, float)
    if isinstance(value, bool) or not np.isfinite(value) or value < 0 or (is_fraction and value > 1.0):
        raise DatasetError(f"split '{name}' is {value}; give a number of frames (50) or a fraction from 0.0 to 1.0")
    return round(value * n) if is_fraction else int(value)
