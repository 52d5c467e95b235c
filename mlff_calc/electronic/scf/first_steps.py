"""The first two steps of an SCF from a predicted Fock matrix, damped along the direction that is known to be slow.

The error of a Fock matrix F is followed by one of F[D], the matrix built from its density. Most parts of the error shrink,
but a shift of charge does not: the electrons go too far, and it comes back with the opposite sign, times 0.9 to 2.8 (B3LYP
and PBE; Hartree-Fock: about 0). What the matrix of minao lacks, V = F[minao] - F, is such a shift, and it is known where a
model needs F[minao]. Of what is left of the error of water after a step, some 90 % is along V.

With the factor r by which an error along V is followed, the solution of the linear problem along V is

    F_next = F_out - (1 - 1/(1 - r)) c V,    c = <V, F_out - F_in> / <V, V>,

with elements between occupied and unoccupied orbitals and the inverse of their gap as the weight, which makes the square
an energy. The second step gives r, which is kept for the next structures of the same molecule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlff_calc.electronic.scf.properties import NARROW, occupied, orbitals

FORGET = 0.98
"""Weight of what was learned before at each new structure; a larger value has a longer memory."""
LARGEST = 4.0
"""Largest overshoot that is believed. A larger value damps more in molecules with soft electrons."""


class Response:
    """By how much errors along V are followed, for each molecule."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def knows(self, kind: str) -> bool:
        """Whether there was an earlier structure of a molecule."""
        return kind in self._sums

    def damping(self, kind: str) -> float:
        """Return 1 - 1/(1 - r), from 0 (nothing is known) to 0.8."""
        followed, moved = self._sums.get(kind, (0.0, 0.0))
        ratio = min(max(-followed / moved, 0.0), LARGEST) if moved > 0.0 else 0.0
        return 1.0 - 1.0 / (1.0 + ratio)

    def learn(self, kind: str, moved: float, followed: float) -> None:
        """Add a step: change of the matrix that was diagonalised, and of the one that was built then, both along V."""
        before = self._sums.get(kind, (0.0, 0.0))
        self._sums[kind] = (FORGET * before[0] + followed * moved, FORGET * before[1] + moved * moved)

    def state(self) -> dict[str, tuple[float, float]]:
        """Return what is remembered."""
        return dict(self._sums)

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what was remembered.

        Raises:
            ValueError, TypeError: It is damaged.
        """
        found = {str(kind): (float(followed), float(moved)) for kind, (followed, moved) in state.items()}
        if not np.isfinite(list(found.values())).all():
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
        self._moved = 0.0

    def __call__(self, cycle: int, fock: Any) -> Any:
        """Return the matrix [n, n] to diagonalise in cycle 0 or 1, given the one that was built; None for that of DIIS."""
        built = np.asarray(fock)
        if not self._size > 0.0:
            return fock
        if cycle == 0:
            self._first = built
        elif self._first is not None:
            self._response.learn(self._kind, self._moved, self._along(built - self._first))
        apart = self._along(built - self._before)
        damping = self._response.damping(self._kind)
        self._moved = apart * (1.0 - damping)
        if self._only_learn:
            self._moved = apart
            return None
        self._before = built - damping * apart * self._direction
        return self._before

    def _mixing(self, matrix: Any) -> Any:
        return self._filled.T @ matrix @ self._empty

    def _along(self, matrix: Any) -> float:
        return float((self._weights * self._own * self._mixing(matrix)).sum()) / self._size
