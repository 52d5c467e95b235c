"""Statistics of a data set that set up a potential."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase.data import chemical_symbols

from mlff_calc.datasets.sample import Sample
from mlff_calc.errors import DatasetError


def fit_reference_energies(samples: Iterable[Sample], elements: Sequence[int]) -> dict[int, float]:
    """Fit an energy for each element such that sums over atoms come closest to the total energies.

    The fit is least squares over all frames with an energy. Where compositions do not determine the energies (a single
    molecule), the solution of smallest norm is taken, whose sums are right for the compositions that occur.

    Args:
        samples: Frames; those without energy are skipped.
        elements: Atomic numbers to fit; elements that occur in no frame get 0.

    Returns:
            Energies (eV) by atomic number.

    Raises:
        DatasetError: no frame has an energy, or a frame holds an element that is not listed.
    """
    column = {int(number): index for index, number in enumerate(elements)}
    rows, energies = [], []
    for sample in samples:
        if sample.energy is None:
            continue
        row = np.zeros(len(column))
        for number, count in zip(*np.unique(sample.atoms.numbers, return_counts=True), strict=True):
            if int(number) not in column:
                known = " ".join(chemical_symbols[known] for known in column)
                raise DatasetError(
                    f"{sample.place} holds {chemical_symbols[number]}, which is not among {known}; add it"
                )
            row[column[int(number)]] = count
        rows.append(row)
        energies.append(sample.energy)
    if not rows:
        raise DatasetError("no frame has an energy, so reference energies cannot be fitted; give them by hand")
    solution = np.linalg.lstsq(np.array(rows), np.array(energies), rcond=None)[0]
    return {number: float(solution[index]) for number, index in column.items()}


def force_rms(samples: Iterable[Sample]) -> float:
    """Return the root mean square of all force components, eV/Angstrom.

    Raises:
        DatasetError: no frame has forces.
    """
    total, count = 0.0, 0
    for sample in samples:
        if sample.forces is not None:
            total += float(np.square(sample.forces).sum())
            count += sample.forces.size
    if count == 0:
        raise DatasetError("no frame has forces, so their size is unknown; give the scale by hand")
    return float(np.sqrt(total / count))
