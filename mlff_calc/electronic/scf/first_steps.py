"""The first two steps of an SCF from a predicted Fock matrix, damped where the electrons are known to go too far.

The error of a Fock matrix F is followed by one of F[D], the matrix built from its density. Most parts of the error shrink,
but a shift of charge does not: the electrons go too far, and it comes back with the opposite sign, times 0.9 to 2.8 (B3LYP
and PBE; Hartree-Fock: about 0). There are two ways to halve it, of which each molecule gets the one that its earlier
structures say.

Along V: what the matrix of minao lacks, V = F[minao] - F, is such a shift, and it is known where a model needs F[minao]. Of
what is left of the error of water after a step, some 90 % is along V; of ethanol, with shifts between many atoms, some 10 %.
With the factor r by which an error along V is followed, the solution of the linear problem along V is

    F_next = F_out - (1 - 1/(1 - r)) c V,    c = <V, F_out - F_in> / <V, V>,

with elements between occupied and unoccupied orbitals and the inverse of their gap as the weight, which makes the square
an energy. The second step gives r, which is kept for the next structures of the same molecule.

As a whole: the first step diagonalises F_next = (1 - d) F_out + d F_in. What shrinks of its own accord is gone after the
next build whatever d is, and what comes back with the opposite sign cancels. In finding the best d, the second and third
matrices that are built, mixed in the same way, stand for the solution: with e_1 and e_2, the differences from it of F_out
and of what would have been built next without damping, d = <e_2, e_2 - e_1> / <e_2 - e_1, e_2 - e_1>.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np

from mlff_calc.electronic.scf.properties import NARROW, occupied, orbitals

FORGET = 0.98
"""Weight of what was learned before at each new structure; a larger value has a longer memory."""
LARGEST = 4.0
"""Largest overshoot that is believed. A larger value damps more in molecules with soft electrons."""


SHARE = 0.5
"""Share of V in the error after a step from which on V alone is damped. A larger value damps more molecules as a whole."""
UNKNOWN = 0.5
"""Share d of the old matrix while none was measured. A larger value damps more."""


@dataclass
class _Sums:
    """What was seen of one molecule: sums of products, the later ones with more weight.

    Attributes:
        followed: Change along V that was built times the one that was diagonalised.
        moved: The latter squared.
        along: Part along V of what a step without damping leaves, squared.
        whole: All of it, squared.
        back: <e_2, e_2 - e_1>.
        apart: <e_2 - e_1, e_2 - e_1>.
    """

    followed: float = 0.0
    moved: float = 0.0
    along: float = 0.0
    whole: float = 0.0
    back: float = 0.0
    apart: float = 0.0

    def add(self, **products: float) -> None:
        """Add products of a structure; those that are not finite say nothing."""
        if not np.isfinite(list(products.values())).all():
            return
        for name, product in products.items():
            setattr(self, name, FORGET * getattr(self, name) + product)


class Response:
    """How errors are followed, for each molecule."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}

    def knows(self, kind: str) -> bool:
        """Whether there was an earlier structure of a molecule."""
        return kind in self._sums

    def damping(self, kind: str) -> float:
        """Return 1 - 1/(1 - r) along V, from 0 (nothing is known) to 0.8."""
        sums = self._sums.get(kind, _Sums())
        ratio = min(max(-sums.followed / sums.moved, 0.0), LARGEST) if sums.moved > 0.0 else 0.0
        return 1.0 - 1.0 / (1.0 + ratio)

    def mixing(self, kind: str) -> float | None:
        """Return d, from 0 to 0.8; None for a molecule that is damped along V."""
        sums = self._sums.get(kind, _Sums())
        if not sums.along < SHARE * sums.whole:
            return None
        return min(max(sums.back / sums.apart, 0.0), 1.0 - 1.0 / (1.0 + LARGEST)) if sums.apart > 0.0 else UNKNOWN

    def learn(self, kind: str, moved: float, followed: float) -> None:
        """Add a step: change of the matrix that was diagonalised, and of the one that was built then, both along V."""
        self._of(kind).add(followed=followed * moved, moved=moved * moved)

    def learn_share(self, kind: str, along: float, whole: float) -> None:
        """Add what a step without damping leaves: the square of its part along V, and that of all of it."""
        self._of(kind).add(along=along, whole=whole)

    def learn_mixing(self, kind: str, back: float, apart: float) -> None:
        """Add <e_2, e_2 - e_1> and <e_2 - e_1, e_2 - e_1> of a structure."""
        self._of(kind).add(back=back, apart=apart)

    def _of(self, kind: str) -> _Sums:
        return self._sums.setdefault(kind, _Sums())

    def state(self) -> dict[str, tuple[float, ...]]:
        """Return what is remembered."""
        return {kind: astuple(sums) for kind, sums in self._sums.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what was remembered, also by earlier versions, which knew damping along V alone.

        Raises:
            ValueError, TypeError: It is damaged.
        """
        found = {str(kind): _Sums(*(float(value) for value in values)) for kind, values in state.items()}
        if any(len(values) not in (2, len(fields(_Sums))) for values in state.values()):
            raise ValueError("what is remembered of first steps has another number of values")
        if not np.isfinite([astuple(sums) for sums in found.values()]).all():
            raise ValueError("what is remembered of first steps has values that are not finite")
        self._sums = found


class FirstSteps:
    """Give the matrices that the first two steps diagonalise.

    Args:
        fock: Matrix [n, n] whose density the SCF starts from, Hartree.
        initial: Fock matrix [n, n] of the density minao.
        overlap: Overlap matrix [n, n].
        n_electrons: Number of electrons, even.
        response: What earlier structures have taught, and what this one adds to.
        kind: Name of the molecule there.
        only_learn: Whether DIIS gives the matrices, and the response is only measured.
    """

    def __init__(
        self, fock: Any, initial: Any, overlap: Any, n_electrons: int, response: Response, kind: str, *,
        only_learn: bool = False,
    ) -> None:  # fmt: skip
        self._only_learn = only_learn
        self._before, self._direction = np.asarray(fock), np.asarray(initial) - np.asarray(fock)
        self._response, self._kind = response, kind
        found, n = orbitals(self._before, overlap), occupied(n_electrons, overlap.shape[-1])
        self._filled, self._empty = found.coefficients[:, :n], found.coefficients[:, n:]
        self._weights = 1.0 / (found.energies[None, n:] - found.energies[:n, None]).clip(NARROW)
        self._own = self._mixing(self._direction)
        self._size = float((self._weights * self._own**2).sum())
        self._first: Any = None
        self._then: Any = None
        self._apart = self._damped = 0.0
        self._mixed: float | None = None
        self._left = 0.0, 0.0

    def __call__(self, cycle: int, fock: Any) -> Any:
        """Return the matrix [n, n] to diagonalise in cycle 0 or 1, given the one that was built; None for that of DIIS.

        In cycle 2 it only learns. SCFs that end before it are left to damping along V.
        """
        built = np.asarray(fock)
        if not self._size > 0.0:
            return None if cycle > 1 else fock
        if cycle == 0:
            return self._start(built)
        if self._first is None:
            return None
        if cycle == 1:
            return self._second(built)
        self._response.learn_share(self._kind, *self._left)
        if self._mixed is not None:
            self._learn_mixing(built)
        return None

    def _start(self, built: Any) -> Any:
        self._first = built
        self._apart = self._along(built - self._before)
        if self._only_learn:
            self._damped, self._mixed = 0.0, None
            return None
        self._mixed = self._response.mixing(self._kind)
        if self._mixed is not None:
            self._damped = self._mixed
            return (1.0 - self._mixed) * built + self._mixed * self._before
        self._damped = self._response.damping(self._kind)
        self._before = built - self._damped * self._apart * self._direction
        return self._before

    def _second(self, built: Any) -> Any:
        change = built - self._first
        followed, left = self._along(change), 1.0 - self._damped
        whole = self._square(change - followed * self._direction) / (1.0 if self._mixed is None else left) ** 2
        along = self._size * (followed / left) ** 2
        self._response.learn(self._kind, self._apart * left, followed)
        self._left = along, whole + along
        if self._only_learn:
            return None
        if self._mixed is not None:
            self._then = built
            return built
        apart = self._along(built - self._before)
        return built - self._response.damping(self._kind) * apart * self._direction

    def _learn_mixing(self, built: Any) -> None:
        mixed = self._mixed or 0.0
        left = 1.0 - mixed
        solution = left * built + mixed * self._then
        apart = self._mixing((self._then - self._first) / left)
        second = self._mixing((self._then - mixed * self._first) / left - solution)
        self._response.learn_mixing(
            self._kind, float((self._weights * second * apart).sum()), float((self._weights * apart**2).sum())
        )

    def _square(self, matrix: Any) -> float:
        return float((self._weights * self._mixing(matrix) ** 2).sum())

    def _mixing(self, matrix: Any) -> Any:
        return self._filled.T @ matrix @ self._empty

    def _along(self, matrix: Any) -> float:
        return float((self._weights * self._own * self._mixing(matrix)).sum()) / self._size
