"""Constants of elements: what energies of another level differ by, atom by atom, from those of the base functional."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import RecipeError

LARGEST = 10.0
"""Largest difference of an energy from that of the base functional, Hartree; larger ones come from wrong units."""


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
