"""The shells of a basis set: how many orbitals an element has, and their places in padded blocks.

The orbitals of an atom stand shell by shell, and in a shell by m = -l..l about z. All elements of a basis share a padded set
of `width` orbitals, sorted by degree: as many shells of each degree as the element that has most of them. The c-th shell of
a degree of an element is the c-th of the padded set, so that hydrogen of def2-SVP (s, s, p) has slots 0, 1, 3, 4, 5 of 14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlff_calc.errors import OrbitalError, UnknownElementError

HIGHEST_DEGREE = 3
"""Highest degree of a shell (f); orders and signs of other programs are not known beyond it."""
LETTERS = "spdfghikl"
"""Letters of shells by degree."""


@dataclass(frozen=True)
class OrbitalBasis:
    """A basis of real spherical orbitals, as far as matrices need to know it.

    Attributes:
        name: Name of the basis, such as ``def2-svp``.
        shells: Atomic number and degrees of the shells of each element, sorted by atomic number. Degrees stand in PySCF's
            order, one for each contraction.
    """

    name: str
    shells: tuple[tuple[int, tuple[int, ...]], ...]

    @classmethod
    def of_shells(cls, name: str, shells: Mapping[int, Sequence[int]], cartesian: bool = False) -> Self:
        """Make a basis from plain data.

        Args:
            name: Name of the basis.
            shells: Degrees of the shells by atomic number; a shell of n contractions is n shells.
            cartesian: Whether its shells are Cartesian, which is refused.

        Raises:
            OrbitalError: Cartesian shells, degrees beyond f, elements without shells or no elements at all.
        """
        if cartesian:
            raise OrbitalError(f"basis {name} is Cartesian; use its spherical form (cart=False in PySCF)")
        if not shells:
            raise OrbitalError(f"basis {name} has no elements; give the shells of at least one")
        for number, degrees in shells.items():
            _check_shells(name, int(number), [int(degree) for degree in degrees])
        plain = {int(number): tuple(int(degree) for degree in degrees) for number, degrees in shells.items()}
        return cls(name, tuple(sorted(plain.items())))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make the basis that `to_dict` wrote.

        Raises:
            OrbitalError: Entries are missing, or describe no basis that can be used.
        """
        try:
            name, shells = str(data["name"]), {int(number): list(degrees) for number, degrees in data["shells"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OrbitalError(f"{data!r} is not a basis; it needs a name, and shells by atomic number") from error
        return cls.of_shells(name, shells)

    def to_dict(self) -> dict[str, Any]:
        """The basis as plain data, for headers of files."""
        return {"name": self.name, "shells": {str(number): list(degrees) for number, degrees in self.shells}}

    @cached_property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of the elements, rising."""
        return tuple(number for number, _ in self.shells)

    @cached_property
    def multiplicities(self) -> tuple[int, ...]:
        """Number of shells of each degree in the padded set, from s on."""
        highest = max(max(degrees) for _, degrees in self.shells)
        return tuple(max(degrees.count(degree) for _, degrees in self.shells) for degree in range(highest + 1))

    @property
    def l_max(self) -> int:
        """Highest degree of a shell."""
        return len(self.multiplicities) - 1

    @cached_property
    def width(self) -> int:
        """Number of padded orbitals."""
        return sum(count * (2 * degree + 1) for degree, count in enumerate(self.multiplicities))

    @cached_property
    def slot_degrees(self) -> NDArray[np.int64]:
        """Degree of each padded orbital [width]."""
        degrees = np.arange(self.l_max + 1)
        return np.repeat(degrees, np.array(self.multiplicities) * (2 * degrees + 1))

    def shells_of(self, number: int) -> tuple[int, ...]:
        """Degrees of the shells of an element.

        Raises:
            UnknownElementError: The basis has no such element.
        """
        return self.shells[self.kinds([number])[0]][1]

    def slots(self, number: int) -> NDArray[np.int64]:
        """Padded slot of each orbital of an element, in the order of the orbitals."""
        starts = np.concatenate([[0], np.cumsum([n * (2 * degree + 1) for degree, n in enumerate(self.multiplicities)])])
        seen = [0] * (self.l_max + 1)
        found: list[int] = []
        for degree in self.shells_of(number):
            first = int(starts[degree]) + seen[degree] * (2 * degree + 1)
            found += range(first, first + 2 * degree + 1)
            seen[degree] += 1
        return np.array(found, dtype=np.int64)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Number of the orbital of an element that has a slot [n_elements, width]; -1 where it has none."""
        ranks = np.full((len(self.elements), self.width), -1, dtype=np.int64)
        for kind, number in enumerate(self.elements):
            slots = self.slots(number)
            ranks[kind, slots] = np.arange(len(slots))
        return ranks

    def kinds(self, numbers: ArrayLike) -> NDArray[np.int64]:
        """Place of each atomic number [n_atoms] among `elements`.

        Raises:
            UnknownElementError: The basis has no such element; ghost atoms have atomic number 0.
        """
        wanted = np.asarray(numbers, dtype=np.int64).reshape(-1)
        known = np.array(self.elements)
        kinds = np.searchsorted(known, wanted).clip(max=len(known) - 1)
        absent = np.unique(wanted[known[kinds] != wanted])
        if len(absent):
            raise UnknownElementError(
                f"basis {self.name} has shells for atomic numbers {list(self.elements)}, not for {absent.tolist()}; "
                "leave these atoms out (0 is a ghost atom), or take a basis that has them"
            )
        return kinds

    def orbitals_by_atom(self, numbers: ArrayLike) -> NDArray[np.int64]:
        """Number of orbitals of each atom [n_atoms], for atomic numbers [n_atoms]."""
        return (self.ranks >= 0).sum(axis=1)[self.kinds(numbers)]

    def n_orbitals(self, numbers: ArrayLike) -> int:
        """Number of orbitals of a molecule with these atomic numbers [n_atoms]."""
        return int(self.orbitals_by_atom(numbers).sum())

    def molecule_shells(self, numbers: ArrayLike) -> NDArray[np.int64]:
        """Degrees of all shells of a molecule [n_shells], atom by atom, for atomic numbers [n_atoms]."""
        shells = [np.array(self.shells[kind][1]) for kind in self.kinds(numbers)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *shells])


def _check_shells(name: str, number: int, degrees: list[int]) -> None:
    """Check the shells of one element."""
    if number < 1:
        raise OrbitalError(f"basis {name} has shells for atomic number {number}; ghost atoms are not supported")
    if not degrees:
        raise OrbitalError(f"basis {name} has no shells for atomic number {number}; leave the element out")
    if min(degrees) < 0:
        raise OrbitalError(f"basis {name} has a shell of degree {min(degrees)} for atomic number {number}")
    if max(degrees) > HIGHEST_DEGREE:
        degree = max(degrees)
        letter = LETTERS[degree] if degree < len(LETTERS) else f"l = {degree}"
        raise OrbitalError(
            f"basis {name} has {letter} shells for atomic number {number}; take a basis whose shells end at f"
        )
