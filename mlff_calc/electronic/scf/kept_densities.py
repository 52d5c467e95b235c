"""Self-consistent densities of base functionals in a folder, for several trainings and judgements of the same molecules."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlff_calc.charges import charge_of
from mlff_calc.electronic.functional import FunctionalNetwork
from mlff_calc.electronic.scf.frozen import FrozenDensity, freeze
from mlff_calc.errors import DatasetError

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class KeptDensities:
    """Densities of base functionals, which are computed once; it can be sent to other processes.

    Attributes:
        folder: Folder of the densities, which appears with the first one.
    """

    folder: Path

    def density(
        self, base: FunctionalNetwork, atoms: Atoms, *, conv_tol: float = 1e-9, max_cycle: int = 50
    ) -> FrozenDensity:
        """Return the density of a molecule with a base functional: the kept one, or a new one, which is kept.

        A density that is damaged is computed again.

        Args:
            base: Functional whose weights are untrained, without constants.
            atoms: Structure, Angstrom; its charge is `info['charge']`.
            conv_tol: Change of energy between cycles at convergence, Ha.
            max_cycle: Largest number of cycles of an attempt.

        Raises:
            OptionError, UnknownElementError, StructureError, ConvergenceError: See `freeze`.
        """
        path = self._path(base, atoms, conv_tol)
        try:
            return FrozenDensity.load(path)
        except (DatasetError, OSError):
            found, _ = freeze(base, atoms, conv_tol=conv_tol, max_cycle=max_cycle)
        path.parent.mkdir(parents=True, exist_ok=True)
        found.save(path)
        return found

    def _path(self, base: FunctionalNetwork, atoms: Atoms, conv_tol: float) -> Path:
        said = [base.base, base.basis, base.grid_level, conv_tol, charge_of(atoms), atoms.numbers.tolist()]
        mark = hashlib.sha256(json.dumps(said).encode() + np.ascontiguousarray(atoms.positions).tobytes())
        return self.folder / f"{mark.hexdigest()[:32]}.safetensors"
