"""The guard of an SCF start: a start that is worse than PySCF's minao is replaced by minao."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from mlff_calc.electronic.scf.fock_builds import build, prepare
from mlff_calc.electronic.scf.mean_field import initial_density
from mlff_calc.electronic.scf.properties import energy_excess

MARGIN = 0.25
"""Largest ratio of a start's excess to minao's, as it was for the same molecule before, at which minao is not built again.
A larger value saves Fock builds and judges more starts by an older value."""


@dataclass
class StartStats:
    """Counts of SCF starts.

    Attributes:
        calls: Number of starts asked for.
        fallbacks: Number of starts that were replaced by minao.
        fock_builds: Number of Fock builds for starts and guard that the SCF did not use afterwards, and those of initial
            matrices: what the guesses cost.
        predict_s: Seconds in predictions.
    """

    calls: int = 0
    fallbacks: int = 0
    fock_builds: int = 0
    predict_s: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """All fields, ready for JSON or a table."""
        return asdict(self)


@dataclass(frozen=True)
class Build:
    """A density with its Fock matrix.

    Attributes:
        density: Density matrix [n, n], tagged with orbitals where it has them.
        potential: Result of `get_veff`.
        fock: Fock matrix [n, n], Hartree.
        excess: Estimate of the energy above the self-consistent one, Hartree; see `energy_excess`.
    """

    density: Any
    potential: Any
    fock: Any
    excess: float


def built(mf: Any, density: Any) -> Build:
    """Build the Fock matrix of a density."""
    potential = build(mf, density)
    overlap = mf.get_ovlp()
    fock = mf.get_fock(h1e=mf.get_hcore(), s1e=overlap, vhf=potential, dm=density)
    excess = energy_excess(np.asarray(fock), np.asarray(density), overlap, mf.mol.nelectron)
    return Build(density, potential, fock, float(excess))


def minao(mf: Any) -> Build:
    """Build the Fock matrix of PySCF's minao density."""
    return built(mf, initial_density(mf, "minao"))


class Guard:
    """Judge starts by `energy_excess`, and fall back to minao where that of the start is larger than minao's.

    A mean field that names the start `atom` (see `cold_start`) has this in the place of minao.

    This estimate needs the Fock matrix of the start only. |F P S - S P F| needs the same, and is not safe: noise on the
    Fock matrix of methanol gave starts with 0.23 of minao's norm that needed 10 cycles instead of 8, and their excess is 11
    times that of minao (B3LYP/def2-SVP).

    The Fock matrix of the start that is chosen is handed to the SCF, which needs it anyway. What minao's excess was for
    the same molecule (elements in the same order) is remembered: a start below `MARGIN` of it needs no Fock matrix of minao.
    So an accepted start costs one Fock build at the first structure of a molecule and none afterwards, and one that is
    replaced costs one.

    Args:
        stats: Counts to increase.
    """

    def __init__(self, stats: StartStats | None = None) -> None:
        self.stats = StartStats() if stats is None else stats
        self._minao: dict[str, float] = {}

    def state(self) -> dict[str, float]:
        """Return what is remembered, by a text for each molecule."""
        return dict(self._minao)

    def load(self, state: Mapping[str, float]) -> None:
        """Restore what was remembered.

        Raises:
            ValueError, TypeError: It is damaged.
        """
        self._minao = {str(kind): float(excess) for kind, excess in state.items()}

    def choose(
        self, mf: Any, density: Any, initial: Build | None = None, steps: Callable[[int, Any], Any] | None = None
    ) -> Any:
        """Return the start to use, with its Fock matrix handed over to the mean field.

        Args:
            mf: Mean field.
            density: Density matrix [n, n] of the start; one with values that are not finite is replaced, None is minao.
            initial: minao with its Fock matrix, where that is known already (and its build has been counted).
            steps: First steps of the SCF where the start is used, see `FirstSteps`.

        Returns:
            The density, or that of minao.
        """
        self.stats.calls += 1
        if density is None:
            return self._use(mf, initial or self._minao_of(mf))
        if not np.isfinite(np.asarray(density)).all():
            self.stats.fallbacks += 1
            return self._use(mf, initial or self._minao_of(mf))
        start = built(mf, density)
        known = self._minao.get(kind_of(mf))
        if initial is None and known is not None and start.excess < MARGIN * known:
            return self._use(mf, start, steps)
        other = initial or self._minao_of(mf)
        self._minao[kind_of(mf)] = other.excess
        self.stats.fock_builds += 1  # that of the two which the SCF does not use
        if start.excess <= other.excess:
            return self._use(mf, start, steps)
        self.stats.fallbacks += 1
        return self._use(mf, other)

    def _minao_of(self, mf: Any) -> Build:
        found = built(mf, initial_density(mf))
        self._minao[kind_of(mf)] = found.excess
        return found

    def _use(self, mf: Any, start: Build, steps: Callable[[int, Any], Any] | None = None) -> Any:
        prepare(mf, start.density, start.potential, steps)
        return start.density


def kind_of(mf: Any) -> str:
    """Return a text for elements, basis, charge and functional of a mean field, whose structures share what is known."""
    mol = mf.mol
    parts = (mol.atom_charges().tobytes(), mol._bas.tobytes(), str(mol.charge).encode(), str(getattr(mf, "xc", "")).encode())
    return sha256(b"|".join(parts)).hexdigest()[:16]
