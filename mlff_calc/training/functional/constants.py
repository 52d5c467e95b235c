"""Constants of elements: what energies of another level differ by, atom by atom, from those of the base functional."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlff_calc.errors import RecipeError

LARGEST = 10.0
"""Largest difference of an energy from that of the base functional, Hartree; larger ones come from wrong units."""
MOST_PROTONS = 118
"""Largest atomic number."""


def check_difference(energy: float, base: float, place: str) -> None:
    """Refuse an energy that cannot be of the same molecule and unit as that of the base functional.

    Args:
        energy: Energy of the label, Hartree.
        base: Energy of the base functional, Hartree.
        place: File and frame, for the message.

    Raises:
        RecipeError: They differ by more than `LARGEST`.
    """
    if abs(energy - base) > LARGEST:
        raise RecipeError(
            f"{place}: the energy is {energy:.6g} Hartree, and the base functional gives {base:.6g}: constants of elements "
            f"would have to make up for more than {LARGEST:g} Hartree. Are the units right (data.units.energy; --unit "
            "energy=... of mlff eval), and is it a total energy of all electrons?"
        )


def fit_constants(numbers: Sequence[NDArray[np.int64]], differences: Sequence[float]) -> dict[int, float]:
    """Fit a constant for each element by least squares; where compositions cannot tell elements apart, the smallest ones.

    Args:
        numbers: Atomic numbers of each frame.
        differences: Energy of the label less that of the base functional, Hartree, of each frame.

    Returns:
        Constants by atomic number, Hartree.
    """
    elements = np.unique(np.concatenate(list(numbers)))
    counts = (np.stack([np.bincount(one, minlength=int(elements[-1]) + 1) for one in numbers]))[:, elements]
    solved = np.linalg.lstsq(counts.astype(np.float64), np.asarray(differences, dtype=np.float64), rcond=None)[0]
    return {int(element): float(value) for element, value in zip(elements, solved, strict=True)}


def independent(numbers: Sequence[NDArray[np.int64]]) -> int:
    """Number of constants that molecules with these atomic numbers can tell apart: the rank of their compositions."""
    counts = np.stack([np.bincount(one, minlength=MOST_PROTONS + 1) for one in numbers])
    return int(np.linalg.matrix_rank(counts.astype(np.float64)))


def without_constants(
    wrong: Tensor, numbers: Tensor, system: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, int]:
    """Remove from errors what constants of elements could make up for, by least squares.

    Args:
        wrong: Errors of molecules [n_systems].
        numbers: Atomic numbers [n_atoms].
        system: Number of the molecule of each atom [n_atoms].
        weights: Weights of the squared errors [n_systems]; None where all are 1.

    Returns:
        Errors that are left, times the roots of the weights [n_systems], and their degrees of freedom.
    """
    n, root = wrong.shape[0], torch.ones_like(wrong) if weights is None else weights.to(wrong.dtype).sqrt()
    ones = torch.ones_like(numbers, dtype=wrong.dtype)
    counts = wrong.new_zeros((n, MOST_PROTONS + 1)).index_put((system, numbers), ones, accumulate=True)
    left, values, _ = torch.linalg.svd(counts * root.unsqueeze(1), full_matrices=False)
    explained = left[:, values > 1e-9 * values.max()]
    scaled = wrong * root
    return scaled - explained @ (explained.t() @ scaled), n - explained.shape[1]
