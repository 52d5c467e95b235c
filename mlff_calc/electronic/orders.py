"""Orders and signs of orbitals in other programs. Nothing here needs torch, which processes that make labels do not load.

Inside a shell our order is m = -l..l about z. PySCF's is the same apart from p, which is x, y, z. ORCA's is m = 0, +1, -1,
+2, -2, ..., and its f orbitals with m = +3 and -3 have the opposite sign. Shells and atoms stand in the same order.

| order | p | d | f |
|---|---|---|---|
| ours | y, z, x | xy, yz, z2, xz, x2-y2 | m = -3..3 |
| pyscf | x, y, z | as ours | as ours |
| orca | z, x, y | z2, xz, yz, x2-y2, xy | 0, 1, -1, 2, -2, -(3), -(-3) |

Source: PySCF's documentation of AO labels; for the signs of ORCA the converters of PySCF (issue 2352).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlff_calc.errors import OptionError

ORDERS = ("ours", "pyscf", "orca")
"""Names of the known orders, those of `datasets/matrix_frames.py`, which loads torch."""


@dataclass(frozen=True)
class Reordering:
    """How orbitals of another order become ours: ``ours[k] = signs[k] * theirs[index[k]]``.

    Attributes:
        index: Place of each of our orbitals in the other order [n_orbitals].
        signs: Sign of each of our orbitals in the other order [n_orbitals], 1 or -1.
    """

    index: NDArray[np.int64]
    signs: NDArray[np.float64]

    @classmethod
    def of_shells(cls, degrees: ArrayLike, order: str) -> Reordering:
        """How orbitals of shells become ours.

        Args:
            degrees: Degree of each shell, an entry for each contraction [n_shells].
            order: Name of the other order, one of `ORDERS`.

        Raises:
            OptionError: The order is unknown.
        """
        if order not in ORDERS:
            raise OptionError(f"unknown order of orbitals {order!r}; choose one of {', '.join(ORDERS)}")
        each = np.asarray(degrees, dtype=np.int64)
        sizes = 2 * each + 1
        starts = np.cumsum(sizes) - sizes
        places, signs = _tables(int(each.max(initial=0)), order)
        there = np.arange(places.shape[1]) < sizes[:, None]
        return cls((starts[:, None] + places[each])[there], signs[each][there])

    def back(self) -> Reordering:
        """How our orbitals become the others."""
        inverse = np.argsort(self.index)
        return Reordering(inverse, self.signs[inverse])


@lru_cache(maxsize=32)
def _tables(highest: int, order: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places and signs of our orbitals in shells of every degree up to the highest, padded [highest + 1, 2 highest + 1]."""
    shape = (highest + 1, 2 * highest + 1)
    places, signs = np.zeros(shape, dtype=np.int64), np.ones(shape)
    for degree in range(highest + 1):
        ms = np.arange(-degree, degree + 1)
        if order == "orca":
            found = 2 * abs(ms) - (ms > 0)
            signs[degree, : len(ms)] = np.where(abs(ms) == 3, -1.0, 1.0)
        else:
            found = np.array([1, 2, 0]) if order == "pyscf" and degree == 1 else ms + degree
        places[degree, : len(ms)] = found
    return places, signs
