"""Counting of the Fock builds of a PySCF mean field, and use of a build that was made before its kernel runs.

A kernel begins with the Fock matrix of its first density. A guard that judges this density has built that matrix already,
so it is handed over: the mean field gets a class that returns the stored potential for the same density, and builds all
others as before. The class goes away when the first potential has been asked for; with `FirstSteps`, which change the
matrices of the first two cycles and look at the third, after these, and at the latest when the kernel ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

_WATCH = "_mlff_watch"


@dataclass
class Prepared:
    """A potential and what it belongs to.

    Attributes:
        density: Copy of the density matrix [n, n].
        potential: Result of `get_veff`.
        setting: Everything else on which it depends, see `setting_of`.
        steps: Function of cycle and Fock matrix [n, n] that gives the matrix to diagonalise in the cycles 0 to 2, or None
            for that of DIIS.
    """

    density: np.ndarray[Any, Any]
    potential: Any
    setting: tuple[Any, ...]
    steps: Callable[[int, Any], Any] | None = None


@dataclass
class Watch:
    """What a watched mean field carries.

    Attributes:
        builds: Number of Fock builds since the watch began.
        prepared: Potential to be used for its density; None for none.
        steps: Those of the prepared potential, while its SCF is in the first three cycles.
        cycle: The last of these that has begun; -1 for none.
        stays: Whether the watch stays after the first potential.
    """

    builds: int = 0
    prepared: Prepared | None = None
    steps: Callable[[int, Any], Any] | None = None
    cycle: int = -1
    stays: bool = False


class _Watched:
    """Mixed into the class of a mean field, before all others."""

    def scf(self, *others: Any, **named: Any) -> Any:
        """Run the SCF; what was prepared for it does not outlive it, however it ends."""
        run = super().scf  # type: ignore[misc]
        watch: Watch | None = self.__dict__.get(_WATCH)
        if watch is None:  # a mean field derived from a watched one
            return run(*others, **named)
        try:
            return run(*others, **named)
        finally:
            watch.prepared = watch.steps = None
            watch.cycle = -1
            if not watch.stays and self.__dict__.get(_WATCH) is watch:
                _unwatch(self)

    def get_veff(self, mol: Any = None, dm: Any = None, *others: Any, **named: Any) -> Any:
        """Potential of a density, the stored one where it fits."""
        make = super().get_veff  # type: ignore[misc]
        watch: Watch | None = self.__dict__.get(_WATCH)
        if watch is None:  # a mean field derived from a watched one, such as by density_fit()
            return make(mol, dm, *others, **named)
        prepared, watch.prepared = watch.prepared, None
        if prepared is not None and dm is not None and _fits(prepared, self, mol, dm):
            found = prepared.potential
            watch.steps, watch.cycle = prepared.steps, -1
        else:
            watch.builds += 1
            found = make(mol, dm, *others, **named)
            if watch.cycle not in (0, 1):  # no potential of the first two cycles
                watch.steps = None
            watch.cycle = -1
        if watch.steps is None and not watch.stays:
            _unwatch(self)
        return found

    def get_fock(
        self, h1e: Any = None, s1e: Any = None, vhf: Any = None, dm: Any = None, cycle: int = -1, diis: Any = None,
        *others: Any, **named: Any,
    ) -> Any:  # fmt: skip
        """Fock matrix, in the first cycles as the prepared steps change it; DIIS keeps what was built."""
        make = super().get_fock  # type: ignore[misc]
        watch: Watch | None = self.__dict__.get(_WATCH)
        if watch is None or watch.steps is None or cycle < 0:
            return make(h1e, s1e, vhf, dm, cycle, diis, *others, **named)
        extrapolated = make(h1e, s1e, vhf, dm, cycle, diis, **(named | {"diis_start_cycle": 0}))
        found = watch.steps(cycle, np.asarray(make(h1e, s1e, vhf, dm)))  # a solvent adds to the potential there
        watch.cycle = cycle
        if cycle > 1:
            watch.steps = None
            if not watch.stays:
                _unwatch(self)
        return extrapolated if found is None else found


def setting_of(mf: Any, mol: Any = None) -> tuple[Any, ...]:
    """Return what the potential of a density depends on, besides the density: class, functional, grid, geometry."""
    grids = getattr(mf, "grids", None)
    mol = mf.mol if mol is None else mol
    return (
        _own_class(mf),
        getattr(mf, "xc", None),
        getattr(mf, "nlc", None),
        getattr(mf, "omega", None),
        id(grids),
        id(getattr(grids, "coords", None)),
        id(vars(mf).get("with_df")),
        mol._atm.tobytes(),
        mol._bas.tobytes(),
        mol._env.tobytes(),
    )


def _fits(prepared: Prepared, mf: Any, mol: Any, density: Any) -> bool:
    same = isinstance(density, np.ndarray) and density.shape == prepared.density.shape
    return same and np.array_equal(density, prepared.density) and setting_of(mf, mol) == prepared.setting


@cache
def _watched_class(kind: type) -> type:
    return type(kind.__name__, (_Watched, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def _watch(mf: Any) -> Watch:
    """Watch a mean field; the watch that it has already stays."""
    if _WATCH not in mf.__dict__:
        mf.__dict__[_WATCH] = Watch()
        mf.__class__ = _watched_class(_own_class(mf))
    watch: Watch = mf.__dict__[_WATCH]
    return watch


def _own_class(mf: Any) -> type:
    """The class of a mean field without a watch."""
    kind = type(mf)
    return kind.__bases__[1] if kind.__bases__[0] is _Watched else kind


def _unwatch(mf: Any) -> None:
    mf.__dict__.pop(_WATCH, None)
    mf.__class__ = _own_class(mf)


@contextmanager
def counted(mf: Any) -> Iterator[Watch]:
    """Count the Fock builds of a mean field within a with-block; `builds` of what is given is their number.

    Builds of guesses and guards within the block count as well. The watch is removed at the end.
    """
    _unwatch(mf)
    watch = _watch(mf)
    watch.stays = True
    try:
        yield watch
    finally:
        _unwatch(mf)


def prepare(mf: Any, density: Any, potential: Any, steps: Callable[[int, Any], Any] | None = None) -> None:
    """Have a mean field use a potential where the density is the next that it needs.

    Args:
        mf: Mean field.
        density: Density matrix [n, n].
        potential: Result of `mf.get_veff` for it.
        steps: See `Prepared`.
    """
    setting = setting_of(mf)
    watch = _watch(mf)
    watch.prepared, watch.steps = Prepared(np.array(density), potential, setting, steps), None


def build(mf: Any, density: Any) -> Any:
    """Build the potential of a density; a prepared one of another density is forgotten."""
    return mf.get_veff(mf.mol, density)
