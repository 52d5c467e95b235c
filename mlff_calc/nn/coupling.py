"""Clebsch-Gordan coefficients in the convention of e3nn: those that raise a degree by one, and those of low degrees.

They are stored in a small file, because importing e3nn takes longer than the rest of a calculator's start.
`python -m mlff_calc.nn.coupling` writes the file again.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HIGHEST_DEGREE = 11
"""Highest degree in the table; e3nn has no coefficients beyond it."""
HIGHEST_PAIR = 3
"""Highest degree of the two factors of `three_j`: f shells of orbitals."""
TABLES = Path(__file__).with_name("coupling.npz")


@lru_cache(maxsize=1)
def _tables() -> dict[str, np.ndarray]:
    with np.load(TABLES) as opened:
        return {name: opened[name] for name in opened.files}


def raising(degree: int) -> Tensor:
    """Coefficients [2 * degree - 1, 3, 2 * degree + 1] of degree - 1 and 1 to `degree`; float64, as in e3nn.

    Args:
        degree: degree of the result, 1 to `HIGHEST_DEGREE`.
    """
    return torch.from_numpy(_tables()[str(degree)].copy())


def three_j(first: int, second: int, degree: int) -> Tensor:
    """Coefficients [2 * first + 1, 2 * second + 1, 2 * degree + 1] of two degrees to `degree`; float64, with norm 1.

    Args:
        first: degree of the first factor, 0 to `HIGHEST_PAIR`.
        second: degree of the second factor, 0 to `HIGHEST_PAIR`.
        degree: degree of the result, from the difference of both to their sum.
    """
    return torch.from_numpy(_tables()[f"{first}_{second}_{degree}"].copy())


def _write() -> None:
    from e3nn import o3

    tables = {
        str(degree): o3.wigner_3j(degree - 1, 1, degree, dtype=torch.float64).numpy()
        for degree in range(1, HIGHEST_DEGREE + 1)
    }
    pairs = itertools.product(range(HIGHEST_PAIR + 1), repeat=2)
    for first, second in pairs:
        for degree in range(abs(first - second), first + second + 1):
            coupled = o3.wigner_3j(first, second, degree, dtype=torch.float64).numpy()
            tables[f"{first}_{second}_{degree}"] = coupled
    np.savez_compressed(TABLES, **tables)


if __name__ == "__main__":
    _write()
