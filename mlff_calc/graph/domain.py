"""The distances and numbers of neighbours in the training data, and the search for atoms outside them.

Three kinds of range are kept. For each element, the distances to an atom's nearest, second, third and fourth neighbour
reveal stretched or broken bonds and scaled molecules. For each pair of elements A-B, the distance from an atom A to its
nearest B reveals atoms pressed together and contacts that training never showed. For each element, the number of
neighbours within the cutoff reveals atoms that lost their surroundings. A missing neighbour counts as one at the
cutoff.

Where training data are molecules of few kinds, their formulas are kept as well; they are told by themselves, because a
potential may hold for larger molecules of the same kind.

All ranges are local, as potentials are. Two intact molecules far apart are inside the domain. A molecule that was torn
apart is outside, because the atoms at the break have lost a neighbour, no matter how far away that is now.
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
"""Number of nearest neighbours of an atom whose distances are compared. Raising it finds more structures outside."""
MARGIN = 0.05
"""Relative excess of a distance over the trained range that is still accepted; raising it reports fewer structures."""
COUNT_MARGIN = 0.2
"""The same for the number of atoms within the cutoff; it is larger because a count grows as the cube of distances."""
SPREAD = "forces_std"
"""Name in a domain of the spread of a force (eV/Angstrom) up to which a calibrated potential is to be trusted."""
MAX_FORMULAS = 32
"""Largest number of formulas that are kept; data with more of them teach kinds of molecules, and no single ones."""

_N_ELEMENTS = len(chemical_symbols)
_ORDINALS = ("nearest", "second", "third", "fourth")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def measures(numbers: Ints, centers: Ints, kinds: Ints, vectors: Floats, *, n_kinds: int, cutoff: float) -> Floats:
    """Compute the quantities that a domain bounds, for each atom [n_atoms, N_NEAREST + n_kinds + 1].

    The columns are the distances to the nearest neighbours in ascending order, the distance to the nearest neighbour of
    each kind (both in Angstrom, `cutoff` where there is none), and the number of atoms within the cutoff including the
    atom itself.

    Args:
        numbers: atomic numbers [n_atoms].
        centers: centre of each edge [n_edges], sorted.
        kinds: kind of each edge's neighbour [n_edges], below `n_kinds`.
        vectors: edge vectors [n_edges, 3], Angstrom.
        n_kinds: number of kinds.
        cutoff: cutoff radius (Angstrom).
    """
    n_atoms = len(numbers)
    distances = np.minimum(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)), cutoff)
    counts = np.bincount(centers, minlength=n_atoms)
    places = np.arange(len(centers)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((n_atoms, max(N_NEAREST, int(counts.max(initial=0)))), cutoff)
    table[centers, places] = distances
    found = np.full((n_atoms, N_NEAREST + n_kinds + 1), cutoff)
    found[:, -1] = 1 + np.count_nonzero(table < cutoff, axis=1)
    np.minimum.at(found.reshape(-1), centers * found.shape[1] + N_NEAREST + kinds, distances)
    table.partition(N_NEAREST - 1, axis=1)
    found[:, :N_NEAREST] = np.sort(table[:, :N_NEAREST], axis=1)
    return found


class _Ranges:
    """Smallest and largest measures of the atoms of each element, with every element as a kind of neighbour.

    Attributes:
        cutoff: cutoff radius (Angstrom).
        known: whether each element occurred [_N_ELEMENTS].
        low: smallest measures [_N_ELEMENTS, N_NEAREST + _N_ELEMENTS + 1], see `measures`; infinite for absent elements.
        high: largest measures, of the same shape; minus infinite for absent elements.
    """

    def __init__(self, cutoff: float) -> None:
        shape = (_N_ELEMENTS, N_NEAREST + _N_ELEMENTS + 1)
        self.cutoff, self.known = cutoff, np.zeros(_N_ELEMENTS, dtype=bool)
        self.low, self.high = np.full(shape, np.inf), np.full(shape, -np.inf)

    def add(self, which: Ints, low: Floats, high: Floats) -> None:
        """Widen the ranges of some elements; each may be named only once."""
        self.known[which] = True
        self.low[which], self.high[which] = np.minimum(self.low[which], low), np.maximum(self.high[which], high)

    def plain(self) -> dict[str, Any]:
        """Return the ranges in the form of `domain_of`."""
        symbols = {chemical_symbols[z]: z for z in np.flatnonzero(self.known).tolist()}
        ranges = np.round(np.stack([self.low, self.high], axis=2), 4)
        pairs = {f"{a}-{b}": ranges[symbols[a], N_NEAREST + symbols[b]].tolist() for a in symbols for b in symbols}
        return {
            "cutoff": float(self.cutoff),
            "nearest": {a: ranges[z, :N_NEAREST].tolist() for a, z in symbols.items()},
            "pairs": {pair: found for pair, found in pairs.items() if found[0] < self.cutoff},
            "neighbors": {a: (ranges[z, -1] - 1).astype(int).tolist() for a, z in symbols.items()},
        }


def longest(vectors: Floats) -> tuple[float, int]:
    """Largest length of the vectors of atoms [n_atoms, 3], and its atom; 0 and 0 where there are none."""
    lengths = np.linalg.norm(vectors, axis=1)
    return float(lengths.max(initial=0.0)), int(lengths.argmax()) if len(lengths) else 0


def domain_of(frames: Iterable[Atoms], cutoff: float) -> dict[str, Any]:
    """The domain of training frames, as a plain dict for the header of weights.

    Args:
        frames: training structures.
        cutoff: cutoff of the potential (Angstrom).

    A potential that was calibrated also has the key `SPREAD` there.

    Returns:
        Dict with `cutoff`; `nearest`, which has N_NEAREST ranges [smallest, largest] in Angstrom for each symbol;
        `pairs`, which has the range of the distance from an A to its nearest B for each "A-B" that occurred within the
        cutoff; `neighbors`, which has the range of the number of neighbours for each symbol; and `formulas`, the sorted
        formulas of frames, if none of them is periodic and there are at most MAX_FORMULAS.

    Raises:
        StructureError: see `neighbor_pairs`.
    """
    ranges, formulas, periodic = _Ranges(cutoff), set[str](), False
    for atoms in frames:
        formulas.add(atoms.get_chemical_formula())
        periodic = periodic or bool(atoms.pbc.any())
        edges = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
        shifts = edges.shifts @ np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
        vectors = atoms.positions[edges.neighbors] - atoms.positions[edges.centers] + shifts
        kinds = atoms.numbers[edges.neighbors]
        found = measures(atoms.numbers, edges.centers, kinds, vectors, n_kinds=_N_ELEMENTS, cutoff=cutoff)
        for number in np.unique(atoms.numbers):
            own = found[atoms.numbers == number]
            ranges.add(np.array([number]), own.min(axis=0), own.max(axis=0))
    few = not periodic and 0 < len(formulas) <= MAX_FORMULAS
    return ranges.plain() | ({"formulas": sorted(formulas)} if few else {})


def united(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Unite the domains of two training sets: the wider range of common elements, and the ranges of all others.

    Args:
        first: domain as returned by `domain_of`.
        second: domain with the same cutoff. Entries that one of them lacks, as older files do, are left out, and so is
            `SPREAD`, which the training that follows would have to calibrate again.

    Raises:
        PotentialFileError: an argument is not a domain, or the cutoffs differ.
    """
    one, other = _read(first), _read(second)
    if one.cutoff != other.cutoff:
        raise PotentialFileError(
            f"a domain of cutoff {one.cutoff:g} Angstrom cannot be united with one of {other.cutoff:g} Angstrom; unite "
            "domains of one potential"
        )
    which = np.flatnonzero(other.known)
    one.add(which, other.low[which], other.high[which])
    formulas = sorted({*first.get("formulas", ()), *second.get("formulas", ())})
    both = one.plain() | ({"formulas": formulas} if len(formulas) <= MAX_FORMULAS else {})
    return {name: found for name, found in both.items() if name in first and name in second}


def is_domain(plain: Any) -> bool:  # noqa: ANN401
    """Whether `plain` is a domain as returned by `domain_of`."""
    try:
        _read(plain)
    except PotentialFileError:
        return False
    return True


def _read(plain: Mapping[str, Any]) -> _Ranges:
    """Read the ranges of a plain domain.

    Raises:
        PotentialFileError: `plain` is not a domain.
    """
    try:
        ranges = _Ranges(float(plain["cutoff"]))
        for symbol, found in plain["nearest"].items():
            z = atomic_numbers[symbol]
            ranges.known[z] = True
            ranges.low[z, N_NEAREST:], ranges.high[z, N_NEAREST:] = ranges.cutoff, ranges.cutoff
            ranges.low[z, :N_NEAREST], ranges.high[z, :N_NEAREST] = _bounds(symbol, found, N_NEAREST)
        for pair, found in plain.get("pairs", {}).items():
            z, column = (_known(ranges, symbol) for symbol in pair.split("-"))
            ranges.low[z, N_NEAREST + column], ranges.high[z, N_NEAREST + column] = _bounds(pair, found, 1)[:, 0]
        for symbol, found in plain.get("neighbors", {}).items():
            z = _known(ranges, symbol)
            ranges.low[z, -1], ranges.high[z, -1] = _bounds(symbol, [each + 1 for each in found], 1)[:, 0]
        if not all(isinstance(formula, str) for formula in plain.get("formulas", [])):
            raise ValueError(f"formulas are {plain['formulas']}")
        if not float(plain.get(SPREAD, np.inf)) > 0.0:  # not a number is refused as well
            raise ValueError(f"the largest spread of a force is {plain[SPREAD]}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PotentialFileError(
            f"the potential's domain is not what training writes ({type(error).__name__}: {error}); copy its "
            "folder again"
        ) from error
    return ranges


def _known(ranges: _Ranges, symbol: str) -> int:
    if not ranges.known[atomic_numbers[symbol]]:
        raise ValueError(f"{symbol} has no nearest distances")
    return int(atomic_numbers[symbol])


def _bounds(name: str, found: Any, n: int) -> Floats:  # noqa: ANN401
    """Low and high ends [2, n] of n ranges."""
    bounds = np.asarray(found, dtype=np.float64).reshape(n, 2)
    if not (np.isfinite(bounds).all() and (bounds[:, 0] > 0.0).all() and (bounds[:, 0] <= bounds[:, 1]).all()):
        raise ValueError(f"{name} has {found}")
    return bounds.T


class Domain:
    """A potential's domain, compared with structures.

    Args:
        plain: domain as returned by `domain_of`; `pairs`, `neighbors` and `formulas` may be missing, as in older files,
            and are then not checked.

    Attributes:
        cutoff: Cutoff of the potential, Angstrom.
        formulas: Formulas of the training data; None where unknown or many.
        spread: Spread of the force on an atom (length of its row in `forces_std`, eV/Angstrom) above which the potential
            was calibrated not to be trusted; None where it was not calibrated.

    Raises:
        PotentialFileError: `plain` is not a domain.
    """

    def __init__(self, plain: Mapping[str, Any]) -> None:
        ranges = _read(plain)
        self.cutoff, self.formulas = ranges.cutoff, plain.get("formulas")
        self.spread = float(plain[SPREAD]) if SPREAD in plain else None
        self._symbols = np.flatnonzero(ranges.known)
        self._kind_of = np.full(_N_ELEMENTS, len(self._symbols))  # the last kind stands for unknown elements
        self._kind_of[self._symbols] = np.arange(len(self._symbols))
        n_kinds = len(self._symbols) + 1
        self._low = np.zeros((_N_ELEMENTS, N_NEAREST + n_kinds + 1))
        self._high = np.full(self._low.shape, np.inf)
        bounded = [*range(N_NEAREST)]
        if "pairs" in plain:
            bounded += [N_NEAREST + z for z in self._symbols.tolist()]
        columns = [*range(len(bounded))]
        if "neighbors" in plain:
            bounded, columns = [*bounded, -1], [*columns, -1]
        rows = self._symbols[:, None]
        self._low[rows, columns], self._high[rows, columns] = ranges.low[rows, bounded], ranges.high[rows, bounded]
        self._margins = np.full(self._low.shape[1], MARGIN)
        self._margins[-1] = COUNT_MARGIN
        self._lowest, self._highest = self._low / (1.0 + self._margins), self._high * (1.0 + self._margins)

    def outside(self, numbers: Ints, centers: Ints, neighbors: Ints, vectors: Floats) -> str | None:
        """Describe the measure farthest outside its trained range in words; None where all are within the margins.

        Args:
            numbers: atomic numbers [n_atoms].
            centers: centre of each edge [n_edges], sorted.
            neighbors: neighbour of each edge [n_edges].
            vectors: edge vectors [n_edges, 3], Angstrom.
        """
        found = self._measures(numbers, centers, neighbors, vectors)
        if not self._are_outside(found, numbers).any():
            return None
        low, high = self._low[numbers], self._high[numbers]
        excess = (np.maximum(found / high, low / found) - 1.0) / self._margins
        atom, column = np.unravel_index(int(excess.argmax()), excess.shape)
        return self._said(numbers, int(atom), int(column), float(found[atom, column]), low[atom, column], high[atom, column])

    def too_wide(self, numbers: Ints, forces_std: Floats) -> str | None:
        """Describe the widest spread of a force in words; None where it is within the calibrated one, or none is known.

        Args:
            numbers: atomic numbers [n_atoms].
            forces_std: standard deviations of forces [n_atoms, 3], eV/Angstrom.
        """
        if self.spread is None or len(numbers) == 0:
            return None
        found, atom = longest(forces_std)
        if found <= self.spread:
            return None
        return (
            f"the spread of the force on atom {atom} ({chemical_symbols[numbers[atom]]}) is {found:.3g} eV/Angstrom, the "
            f"potential was calibrated to be trusted up to {self.spread:.3g}"
        )

    def are_outside(self, numbers: Ints, centers: Ints, neighbors: Ints, vectors: Floats) -> NDArray[np.bool_]:
        """Whether each atom has a measure outside its trained range [n_atoms]; see `outside`."""
        outside = self._are_outside(self._measures(numbers, centers, neighbors, vectors), numbers)
        of_atoms: NDArray[np.bool_] = np.any(outside, axis=1)
        return of_atoms

    def new_formula(self, atoms: Atoms) -> str | None:
        """Say that a molecule's formula was not in the training data; None where it was, or where that is not known."""
        formula = atoms.get_chemical_formula()
        if self.formulas is None or formula in self.formulas or atoms.pbc.any():
            return None
        return f"the formula {formula} was not in the training data, which had {', '.join(self.formulas)}"

    def _measures(self, numbers: Ints, centers: Ints, neighbors: Ints, vectors: Floats) -> Floats:
        kinds, n_kinds = self._kind_of[numbers[neighbors]], len(self._symbols) + 1
        return measures(numbers, centers, kinds, vectors, n_kinds=n_kinds, cutoff=self.cutoff)

    def _are_outside(self, found: Floats, numbers: Ints) -> NDArray[np.bool_]:
        outside: NDArray[np.bool_] = (found > self._highest[numbers]) | (found < self._lowest[numbers])
        return outside

    def _said(self, numbers: Ints, atom: int, column: int, found: float, low: float, high: float) -> str:
        """Describe one measure of an atom and its range in words."""
        symbol = chemical_symbols[numbers[atom]]
        if column == self._low.shape[1] - 1:
            return (
                f"atom {atom} ({symbol}) has {found - 1:.0f} neighbours within {self.cutoff:g} Angstrom, "
                f"the training data had {low - 1:.0f} to {high - 1:.0f} for {symbol}"
            )
        place = f"is at {found:.2f} Angstrom" if found < self.cutoff else f"is not within {self.cutoff:g} Angstrom"
        if column < N_NEAREST:
            which, of = f"{_ORDINALS[column]} neighbour", symbol
        else:
            other = chemical_symbols[self._symbols[column - N_NEAREST]]
            which, of = f"nearest {other}", f"{symbol}-{other}"
        trained = f"{low:.2f} to {high:.2f}" if low < self.cutoff else "none nearer than the cutoff"
        return f"the {which} of atom {atom} ({symbol}) {place}, the training data had {trained} for {of}"
