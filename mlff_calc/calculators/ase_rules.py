"""ASE's rules around one calculation: results of the last structure, what has changed since, parameters, and threads."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from mlff_calc.calculators.convert import to_atoms
from mlff_calc.calculators.outputs import Results
from mlff_calc.calculators.sharing import Turn, written_atoms
from mlff_calc.calculators.snapshot import Snapshot, differences
from mlff_calc.errors import OptionError, SimulationError, StructureError
from mlff_calc.near import suggestion


class AseCalculator(Calculator):
    """An ASE calculator that keeps the last structure and hands out copies of its results.

    Subclasses set `default_parameters`, and implement `_prepare` and `_calculate`. Threads that share a calculator take
    turns (`sharing.py`).

    Args:
        parameters: Values for all names of `default_parameters`.
    """

    def __init__(self, **parameters: Any) -> None:
        self._turn = Turn()
        self._held: Results = {}
        self._last: Snapshot | None = None
        super().__init__()
        self.parameters.update(parameters)

    @abstractmethod
    def _prepare(self) -> None:
        """Build what the current parameters need.

        Raises:
            OptionError: A parameter cannot be honoured.
        """

    @abstractmethod
    def _calculate(self, source: Atoms, properties: Sequence[str]) -> None:
        """Calculate, while this thread holds the lock: set `_held` and `_last`, and call `_turn.new_results`."""

    @property
    def results(self) -> Results:
        """Results for the last structure; for ASE's writers, results for the structure being written, computed if needed.

        Raises:
            SimulationError: Another thread has since asked for another structure.
        """
        if self._held:
            written = written_atoms(sys._getframe(1))
            if written is not None:
                return self._copies("energy", written)
        if self._turn.replaced():
            raise SimulationError(
                "another thread has used this calculator since, `results` and what was asked before do not belong together: "
                "make one calculator per thread, or ask with calculator.evaluate(atoms), which threads may do in turn"
            )
        return self._held

    @results.setter
    def results(self, results: Results) -> None:
        self._held = results
        self._turn.new_results()

    @property
    def atoms(self) -> Atoms | None:
        """Copy of the structure of the last calculation; None before the first."""
        return None if self._last is None else self._last.atoms()

    @atoms.setter
    def atoms(self, atoms: Atoms | None) -> None:
        self._last = None if atoms is None else Snapshot(atoms)

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Change parameters. A change drops results and memory, and prepares anew.

        Raises:
            OptionError: A name is unknown or a value cannot be honoured; the calculator is then unchanged.
        """
        for name in parameters:
            if name not in self.default_parameters:
                hint = suggestion(name, self.default_parameters, after=" ")
                known = ", ".join(self.default_parameters)
                raise OptionError(f"{type(self).__name__} has no parameter {name!r}: {hint}choose from {known}")
        before = dict(self.parameters)
        changed = super().set(**parameters)
        if changed:
            try:
                self._prepare()
            except Exception:
                self._go_back(before)
                raise
            self.reset()
        return changed

    def _go_back(self, before: dict[str, Any]) -> None:
        """Take the parameters from before a change that was refused."""
        self.parameters.update(before)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """List what changed since the last calculation."""
        return differences(self._last, atoms) if tol <= 1e-15 else super().check_state(atoms, tol=tol)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return a copy of one property, as ASE's getters do.

        Without `allow_calculation` the answer is None for any structure but the last.

        Raises:
            PropertyNotImplementedError: The property is unknown, or the structure has none.
        """
        atoms = None if atoms is None else to_atoms(atoms)
        if name not in self.implemented_properties:
            raise PropertyNotImplementedError(f"{name} property not implemented")
        with self._turn:
            self._turn.seen()  # the atoms are compared with those of the last calculation below
            changes = [] if atoms is None else self.check_state(atoms)
            if changes or name not in self._held:
                if not allow_calculation:
                    return None
                source = self._source(atoms)
                self._require(name, source)
                self.calculate(source, [name], changes)
            result = self._held[name]
            return result.copy() if isinstance(result, np.ndarray) else result

    def _require(self, name: str, atoms: Atoms) -> None:
        """Refuse a property that a structure cannot have, before anything is computed."""

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Calculate a structure; what was computed is then in `results`.

        Args:
            atoms: Structure, which is not changed; by default that of the last calculation.
            properties: Requested properties.
            system_changes: Ignored.

        Raises:
            MLFFError: The structure cannot be calculated, or the calculation fails; see the class.
        """
        with self._turn:
            self._turn.seen()
            self._calculate(self._source(atoms), properties)

    def evaluate(self, structure: object) -> Results:
        """Compute all results for a structure of ASE or pymatgen.

        Args:
            structure: Any structure that `to_atoms` accepts.

        Returns:
            Copies of `results`: energy in eV, forces [n, 3] in eV/Angstrom and others.

        Raises:
            StructureError: The object is no structure; further errors as in `calculate`.
        """
        return self._copies("forces", structure)

    def _copies(self, name: str, structure: object) -> Results:
        """Copies of the results for a structure, of which one is asked for."""
        atoms = to_atoms(structure)
        with self._turn:
            self.get_property(name, atoms)
            return {key: np.copy(value) if isinstance(value, np.ndarray) else value for key, value in self._held.items()}

    def _source(self, atoms: Atoms | None) -> Atoms:
        """The structure to calculate."""
        if atoms is not None:
            return to_atoms(atoms)
        if self._last is None:
            raise StructureError("no structure was given, and none has been calculated yet; call with atoms")
        return self._last.atoms()
