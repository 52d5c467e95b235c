"""Numbers of a data set that a potential is set up with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from mlff_calc.datasets.sample import Sample
from mlff_calc.errors import DatasetError
from mlff_calc.graph import Graph, keys


def fit_reference_energies(samples: Iterable[Sample], elements: Sequence[int]) -> dict[int, float]:
    """Energy of each element, so that sums over the atoms come closest to the total energies.

    Least squares over all frames with an energy. Where compositions do not determine the energies (one molecule only),
    the solution of smallest norm is taken: its sums are right for the compositions that occur.

    Args:
        samples: frames; those without energy are left out.
        elements: atomic numbers to fit; one that occurs in no frame gets 0.

    Returns:
        eV by atomic number.

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
    """Root mean square of all force components, eV/Angstrom.

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


@dataclass(frozen=True)
class NeighborStatistics:
    """Neighbours per atom over a set of graphs.

    Attributes:
        mean: mean number.
        most: largest number.
        fewest: smallest number.
        shortest: shortest edge in Angstrom; infinity where there are no edges.
    """

    mean: float
    most: int
    fewest: int
    shortest: float


def neighbor_statistics(graphs: Iterable[Graph]) -> NeighborStatistics:
    """Numbers of neighbours and the shortest edge of some graphs.

    Raises:
        DatasetError: there are no atoms.
    """
    edges, atoms, most, fewest, shortest = 0, 0, 0, None, float("inf")
    for graph in graphs:
        n_atoms = graph[keys.ATOMIC_NUMBERS].shape[0]
        if n_atoms == 0:
            continue
        counts = np.bincount(graph[keys.EDGE_INDEX][0].numpy(), minlength=n_atoms)
        edges, atoms = edges + int(counts.sum()), atoms + n_atoms
        most = max(most, int(counts.max()))
        fewest = int(counts.min()) if fewest is None else min(fewest, int(counts.min()))
        vectors = graph[keys.EDGE_VEC]
        if len(vectors):
            shortest = min(shortest, float(vectors.norm(dim=1).min()))
    if atoms == 0:
        raise DatasetError("there are no atoms to count neighbours of; give at least one structure")
    return NeighborStatistics(edges / atoms, most, fewest or 0, shortest)
