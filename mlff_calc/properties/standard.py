"""Standard units of a property: which part of a label the composition tells, and what is left to learn.

    y = base + spread * t        t: what the network learns, of order one

| pooling | for | base | spread |
|---|---|---|---|
| `mean` | properties that do not grow with the size (gaps, adsorption energies) | mean of the labels | scale |
| `sum` | totals | mean per atom times the number of atoms | scale times the number of atoms |
| `references` | totals that composition explains, such as energies | sum of one reference for each atom | as for `sum` |

For totals t is a deviation per atom, so that a structure repeated n times has n times the property.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

POOLINGS = ("mean", "sum", "references")
TINY = 1e-9
"""Scale below which labels count as constant, relative to the labels. Raising it refuses labels that hardly differ."""
EXPLAINED = 0.999
"""Share of the variance by composition from which labels of `mean` are named as totals. Raising it names fewer."""


def counts_of(numbers: Sequence[NDArray[Any]], elements: Sequence[int]) -> NDArray[np.float64]:
    """Numbers of atoms of each element [n_frames, n_elements].

    Args:
        numbers: Atomic numbers of each frame.
        elements: Atomic numbers, those of all frames.
    """
    return np.array([[float((own == z).sum()) for z in elements] for own in numbers])


def base_of(
    labels: NDArray[np.float64], counts: NDArray[np.float64], pooling: str
) -> tuple[NDArray[np.float64], float]:
    """Fit the part of labels that the composition tells.

    Args:
        labels: Labels [n_frames].
        counts: Numbers of atoms of each element [n_frames, n_elements].
        pooling: One of `POOLINGS`.

    Returns:
        References [n_elements] (all 0 for `mean`), and the mean (0 for totals).
    """
    if pooling == "mean":
        return np.zeros(counts.shape[1]), float(labels.mean())
    if pooling == "sum":
        sizes = counts.sum(axis=1)
        return np.full(counts.shape[1], float(labels @ sizes / (sizes @ sizes))), 0.0
    return np.asarray(np.linalg.lstsq(counts, labels, rcond=None)[0], dtype=np.float64), 0.0


def standard_of(
    labels: NDArray[np.float64], numbers: Sequence[NDArray[Any]], elements: Sequence[int], pooling: str, where: str
) -> dict[str, Any]:
    """Measure the standard units on training labels.

    Args:
        labels: Labels [n_frames].
        numbers: Atomic numbers of each frame.
        elements: Atomic numbers, those of all frames.
        pooling: One of `POOLINGS`.
        where: Name of the data, for messages.

    Returns:
        `references` by atomic number (all 0 for `mean`), `mean` (0 for totals) and `scale`, for `build_property`.

    Raises:
        DatasetError: Labels are equal, or sums over atoms explain them wholly.
    """
    counts = counts_of(numbers, elements)
    sizes = counts.sum(axis=1)
    references, mean = base_of(labels, counts, pooling)
    left = (labels - mean - counts @ references) / (1.0 if pooling == "mean" else sizes)
    scale = float(np.sqrt(np.mean(left**2)))
    size = float(np.abs(labels).max())
    if labels.max() - labels.min() <= TINY * size:
        raise DatasetError(f"all {len(labels)} labels of {where} are {labels[0]:.6g}; there is nothing to learn")
    if scale <= TINY * float(np.abs(labels / sizes if pooling != "mean" else labels).max()):
        raise DatasetError(
            f"sums over atoms explain all {len(labels)} labels of {where} exactly; there is nothing left to learn, take "
            "frames of more shapes, or set property.pooling to mean"
        )
    by_element = {str(z): float(r) for z, r in zip(elements, references, strict=True)}
    return {"references": by_element, "mean": mean, "scale": scale}


def size_note(labels: NDArray[np.float64], numbers: Sequence[NDArray[Any]], elements: Sequence[int], pooling: str) -> str:
    """Describe labels whose size looks like that of another pooling; empty where they do not.

    Args:
        labels: Labels [n_frames].
        numbers: Atomic numbers of each frame.
        elements: Atomic numbers, those of all frames.
        pooling: One of `POOLINGS`.
    """
    counts = counts_of(numbers, elements)
    sizes = counts.sum(axis=1)
    variance = float(labels.var())
    if len(labels) < 3 * len(elements) or not sizes.std() > 0.05 * sizes.mean() or not variance > 0.0:
        return ""
    with_size = float(np.corrcoef(labels, sizes)[0, 1])
    if pooling == "mean":
        left = labels - counts @ np.linalg.lstsq(counts, labels, rcond=None)[0]
        explained = 1.0 - float(np.mean(left**2)) / variance
        if explained > EXPLAINED and abs(with_size) > 0.5:
            return (
                f"property.pooling is mean, but sums over atoms explain {explained:.2%} of the labels, which grow with the "
                "number of atoms: they look like totals; set property.pooling to references, or give them per atom"
            )
        return ""
    if abs(with_size) < 0.5 and float(labels.std()) < 0.5 * float((labels / sizes).std() * sizes.mean()):
        return (
            f"property.pooling is {pooling}, but the labels do not grow with the number of atoms (correlation "
            f"{with_size:.2f}): they look like values per atom or of the whole structure; set property.pooling to mean"
        )
    return ""
