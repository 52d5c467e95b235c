"""Starts of the SCFs of a trajectory: by PySCF, by earlier steps, by a model, or by a model and its earlier errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mlff_calc.electronic.scf.extrapolation import DensityExtrapolation, DifferenceExtrapolation, PreviousDensity
from mlff_calc.electronic.scf.fits import check_fits
from mlff_calc.electronic.scf.guard import Guard, StartStats
from mlff_calc.electronic.scf.guess import HamiltonianGuess, PredictsFock, start_of, tagged
from mlff_calc.electronic.scf.mean_field import initial_density
from mlff_calc.errors import OptionError
from mlff_calc.near import suggestion

FREE = ("minao", "huckel", "atom", "1e", "vsap", "sap")
"""Starts by PySCF alone."""
STARTS = (*FREE, "previous", "aspc", "model", "model+aspc")
JUMP = 0.5
"""Largest displacement of an atom in a step of a trajectory, Angstrom; after a larger one, earlier steps are forgotten."""


class Memory(Protocol):
    """Orbitals of earlier steps."""

    def __len__(self) -> int:
        """Number of earlier steps."""
        ...

    def add(self, coefficients: Any, overlap: Any) -> None:
        """Add the occupied orbitals of a step."""
        ...

    def predict(self, overlap: Any) -> Any:
        """Occupied orbitals of the next step."""
        ...

    def clear(self) -> None:
        """Forget all steps."""
        ...

    def state(self) -> dict[str, Any]:
        """Memory as plain arrays."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a memory."""
        ...


class Starter:
    """Give the initial density of every SCF, and learn from its result.

    Steps of a trajectory are in order; another molecule, a jump of an atom, or a start worse than minao ends the memory.
    All starts but PySCF's own are judged by the guard.

    Args:
        start: One of PySCF's (`minao`, `huckel`, `atom`, `1e`, `vsap`, `sap`), `previous` (orbitals of the last step),
            `aspc` (extrapolated density), `model`, or `model+aspc` (the model's Fock matrix with its extrapolated error).
        model: Model or its name, for the last two.
        order: Order of the extrapolation, 0 to 4.

    Attributes:
        start: Name of the start.
        stats: Counts, as `StartStats`.
        is_cold: Whether the last density was the mean field's own start.

    Raises:
        OptionError: The start is unknown, or does not go with the model.
        PotentialFileError: There is no such model.
    """

    def __init__(self, start: str, model: str | Path | PredictsFock | None = None, order: int = 3) -> None:
        if start not in STARTS:
            hint = suggestion(start, STARTS, after=" ")
            raise OptionError(f"unknown start {start!r}: {hint}choose {', '.join(STARTS)}")
        if (model is not None) != start.startswith("model"):
            cure = "give model=NAME" if model is None else "leave the model out, or choose start='model'"
            raise OptionError(f"the start {start!r} does {'' if model is None else 'not '}need a model; {cure}")
        self.start, self.stats, self.is_cold = start, StartStats(), False
        self._guard = Guard(self.stats)
        self._guess = None if model is None else HamiltonianGuess(model, self._guard)
        self._density: Memory | None = None
        if start in ("previous", "aspc"):
            self._density = PreviousDensity() if start == "previous" else DensityExtrapolation(order)
        self._difference = DifferenceExtrapolation(order) if start == "model+aspc" else None
        self._last: tuple[Any, Any] | None = None  # atomic numbers and positions of the last step, Angstrom
        self._predicted: Any = None  # the model's Fock matrix for the present step, PySCF's order

    @property
    def remembers(self) -> bool:
        """Whether starts depend on earlier steps."""
        learns = self._guess is not None and self._guess.model.needs_initial
        return learns or self._density is not None or self._difference is not None

    def density(self, mf: Any) -> Any:
        """Return the density to start from, with its Fock matrix handed over to the mean field.

        Raises:
            OptionError, UnknownElementError: The mean field is not one for the model.
        """
        self._forget_after_jump(mf.mol)
        if self.start in FREE:
            self.stats.calls += 1
            self.is_cold = self.start == mf.init_guess
            return initial_density(mf, self.start)
        before, steps = self.stats.fallbacks, None
        if self._guess is not None:
            check_fits(mf, self._guess.model)
            fock, initial = self._guess.fock(mf)
            self._predicted = fock
            if self._difference is not None:
                fock = self._difference.predict(fock, mf.get_ovlp())
            steps = self._guess.steps(mf, fock, initial)
            start = start_of(mf, fock)
            found = self._guard.choose(mf, start, initial, steps)
        else:
            filled = None if self._density is None else self._density.predict(mf.get_ovlp())
            start = None if filled is None else tagged(filled, mf.mol.nelectron)
            found = self._guard.choose(mf, start)
        self.is_cold = start is None or self.stats.fallbacks > before
        if self.stats.fallbacks > before:
            self.clear()
        elif start is not None and steps is None:
            mf.diis_start_cycle = 0  # minao's Fock matrix is too far from the others
        return found

    def add(self, mf: Any) -> None:
        """Learn from a mean field that has converged."""
        mol, overlap = mf.mol, mf.get_ovlp()
        if self._density is not None:
            self._density.add(mf.mo_coeff[:, mf.mo_occ > 0], overlap)
        if self._difference is not None and np.isfinite(self._predicted).all():
            half = overlap @ mf.mo_coeff
            self._difference.add((half * mf.mo_energy) @ half.T, self._predicted, overlap)
        self._last = (mol.atom_charges(), mol.atom_coords(unit="Angstrom"))

    def clear(self) -> None:
        """Forget earlier steps."""
        for memory in (self._density, self._difference):
            if memory is not None:
                memory.clear()
        self._last = None

    def state(self) -> dict[str, Any]:
        """Return the memory as plain types and arrays."""
        memory = self._density if self._density is not None else self._difference
        held: dict[str, Any] = {"start": self.start, "guard": self._guard.state()}
        if self._guess is not None:
            held["response"] = self._guess.response.state()
        if memory is not None and len(memory):
            held["memory"] = memory.state()
        if self._last is not None:
            held["numbers"], held["positions"] = (np.array(one) for one in self._last)
        return held

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a memory from `state`.

        Raises:
            ValueError, KeyError, TypeError: It is damaged or of another start.
        """
        if state["start"] != self.start:
            raise ValueError(f"the memory is of the start {state['start']}, not {self.start}")
        self.clear()
        self._guard.load(state["guard"])
        if self._guess is not None:
            self._guess.response.load(state["response"])
        memory = self._density if self._density is not None else self._difference
        if memory is not None and "memory" in state:
            memory.load(state["memory"])
        if "numbers" in state:
            self._last = (np.array(state["numbers"]), np.array(state["positions"], dtype=np.float64))

    def _forget_after_jump(self, mol: Any) -> None:
        if self._last is None:
            return
        numbers, positions = self._last
        same = np.array_equal(numbers, mol.atom_charges())
        if not same or np.abs(positions - mol.atom_coords(unit="Angstrom")).max(initial=0.0) > JUMP:
            self.clear()
