"""The distances that training data had, and atoms that are outside of them.

Kept are, for each element, the smallest and largest distance to an atom's nearest, second, third and fourth neighbour: a
bond that is stretched or broken, a molecule that is scaled, and atoms pressed together all move one of them out of its
range. A neighbour that is missing within the cutoff counts as one at the cutoff.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from mlff_calc.errors import PotentialFileError
from mlff_calc.graph.neighbors import neighbor_pairs

N_NEAREST = 4
MARGIN = 0.05
"""Share of a distance by which atoms may leave the trained range before anything is said."""

Floats = NDArray[np.float64]


def domain_of(frames: Iterable[Atoms], cutoff: float) -> dict[str, Any]:
    """The domain of training frames, as a plain dict for the header of weights.

    Args:
        frames: the structures.
        cutoff: Angstrom, of the potential.

    Returns:
        `cutoff`, and `nearest`: for each symbol N_NEAREST pairs [smallest, largest] in Angstrom.

    Raises:
        StructureError: see `neighbor_pairs`.
    """
    ranges: dict[int, Floats] = {}
    for atoms in frames:
        pairs = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
        shifts = pairs.shifts @ np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
        vectors = atoms.positions[pairs.neighbors] - atoms.positions[pairs.centers] + shifts
        nearest = nearest_distances(len(atoms), pairs.centers, vectors, cutoff)
        for number in np.unique(atoms.numbers).tolist():
            own = nearest[atoms.numbers == number]
            found = np.stack([own.min(axis=0), own.max(axis=0)], axis=1)
            known = ranges.setdefault(number, found)
            np.minimum(known[:, 0], found[:, 0], out=known[:, 0])
            np.maximum(known[:, 1], found[:, 1], out=known[:, 1])
    nearest_of = {chemical_symbols[z]: np.round(ranges[z], 4).tolist() for z in sorted(ranges)}
    return {"cutoff": float(cutoff), "nearest": nearest_of}


def united(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The domain of what was trained on the frames of two domains: the wider range of elements of both, the range of others.

    Args:
        first: what `domain_of` gives.
        second: the same, of the same cutoff.

    Raises:
        PotentialFileError: one of them is something else, or their cutoffs differ.
    """
    one, other = Domain(first), Domain(second)
    if one.cutoff != other.cutoff:
        raise PotentialFileError(
            f"a domain of cutoff {one.cutoff:g} Angstrom cannot be united with one of {other.cutoff:g} Angstrom; unite "
            "domains of one potential"
        )
    nearest: dict[str, list[list[float]]] = {}
    for symbol in sorted({*first["nearest"], *second["nearest"]}, key=atomic_numbers.__getitem__):
        ranges = np.array([each["nearest"][symbol] for each in (first, second) if symbol in each["nearest"]])
        nearest[symbol] = np.stack([ranges[..., 0].min(axis=0), ranges[..., 1].max(axis=0)], axis=1).tolist()
    return {"cutoff": one.cutoff, "nearest": nearest}


def nearest_distances(n_atoms: int, centers: NDArray[np.int64], vectors: Floats, cutoff: float) -> Floats:
    """Distances [n_atoms, N_NEAREST] to the nearest neighbours in ascending order, `cutoff` where there are fewer.

    Args:
        n_atoms: number of atoms.
        centers: [n_edges] centre of each edge, sorted.
        vectors: [n_edges, 3] Angstrom.
        cutoff: Angstrom.
    """
    distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    counts = np.bincount(centers, minlength=n_atoms)
    places = np.arange(len(centers)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((n_atoms, max(N_NEAREST, int(counts.max(initial=0)))), cutoff)
    table[centers, places] = np.minimum(distances, cutoff)
    table.partition(N_NEAREST - 1, axis=1)
    nearest = table[:, :N_NEAREST]
    nearest.sort(axis=1)
    return nearest


def is_domain(plain: Any) -> bool:  # noqa: ANN401
    """Whether something is what `domain_of` gives."""
    try:
        Domain(plain)
    except PotentialFileError:
        return False
    return True


class Domain:
    """A potential's domain, held against structures.

    Args:
        plain: what `domain_of` gives.

    Raises:
        PotentialFileError: something else.
    """

    def __init__(self, plain: Mapping[str, Any]) -> None:
        self.low = np.zeros((len(chemical_symbols), N_NEAREST))
        self.high = np.full((len(chemical_symbols), N_NEAREST), np.inf)
        try:
            self.cutoff = float(plain["cutoff"])
            for symbol, ranges in plain["nearest"].items():
                bounds = np.asarray(ranges, dtype=np.float64).reshape(N_NEAREST, 2)
                if not (np.isfinite(bounds).all() and (bounds[:, 0] > 0.0).all() and (bounds[:, 0] <= bounds[:, 1]).all()):
                    raise ValueError(f"{symbol} has {ranges}")
                self.low[atomic_numbers[symbol]], self.high[atomic_numbers[symbol]] = bounds.T
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PotentialFileError(
                f"the potential's domain is not what training writes ({type(error).__name__}: {error}); copy its "
                "folder again"
            ) from error

    def outside(self, numbers: NDArray[np.int64], centers: NDArray[np.int64], vectors: Floats) -> str | None:
        """What is farthest from the trained range by more than MARGIN, in words; None where nothing is.

        Args:
            numbers: [n_atoms] atomic numbers.
            centers: [n_edges] centre of each edge, sorted.
            vectors: [n_edges, 3] Angstrom.
        """
        nearest = nearest_distances(len(numbers), centers, vectors, self.cutoff)
        low, high = self.low[numbers], self.high[numbers]
        excess = np.maximum(nearest / high, low / nearest)
        if not excess.max(initial=0.0) > 1.0 + MARGIN:
            return None
        atom, which = np.unravel_index(int(excess.argmax()), excess.shape)
        text = ("nearest", "second", "third", "fourth")[which]
        symbol, bound = chemical_symbols[numbers[atom]], f"{low[atom, which]:.2f} to {high[atom, which]:.2f}"
        found = f"is at {nearest[atom, which]:.2f} Angstrom"
        if nearest[atom, which] >= self.cutoff:
            found = f"is not within {self.cutoff:g} Angstrom"
        return f"the {text} neighbour of atom {atom} ({symbol}) {found}, trained were {bound} for {symbol}"
