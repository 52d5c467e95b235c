"""Self-consistent densities of learned functionals, kept as what a training at frozen densities needs.

At a self-consistent density the energy is stationary, so that its derivative by the weights of the functional is the
explicit one, dE/dtheta = dE_xc/dtheta at frozen density (Hellmann-Feynman), and a density of slightly other weights
gives the energy of the present ones to second order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from mlff_calc.bounded import require_regular
from mlff_calc.datasets.packing import pack, unpack
from mlff_calc.electronic.functional import DensityGrid, FunctionalNetwork
from mlff_calc.electronic.scf.functional_engine import density_grid, nuclei, rks
from mlff_calc.electronic.scf.mean_field import converged, no_file
from mlff_calc.electronic.scf.pyscf_door import build_mole
from mlff_calc.errors import DatasetError
from mlff_calc.whole_files import write_whole

if TYPE_CHECKING:
    from ase import Atoms

FloatArray = NDArray[np.float64]
_NAMES = ("positions", "weights", "density", "matrix", "energy", "rest", "cycles", "retried", "jump")


@dataclass(frozen=True, eq=False)
class FrozenDensity:
    """A self-consistent density, in Hartree atomic units.

    Attributes:
        positions: Points of the grid [n_points, 3].
        weights: Weights of the points [n_points].
        density: n, its gradient and tau on the points [4 or 5, n_points].
        matrix: Density matrix [n, n], in PySCF's order.
        energy: Total energy, with constants of elements.
        rest: Total energy without E_xc and constants of elements.
        cycles: Number of SCF cycles.
        retried: Whether the SCF needed a second attempt.
        jump: Energy less that of the same functional at the density that the SCF started from; NaN for other starts.
    """

    positions: FloatArray
    weights: FloatArray
    density: FloatArray
    matrix: FloatArray
    energy: float
    rest: float
    cycles: int
    retried: bool = False
    jump: float = float("nan")

    def grid(self) -> DensityGrid:
        """The density on its points, as functionals read it."""
        return DensityGrid(*(torch.from_numpy(one) for one in (self.positions, self.weights, self.density)))

    def save(self, path: Path) -> None:
        """Write it to a file, which appears when it is complete; raises an OSError."""
        write_whole(path, pack({name: getattr(self, name) for name in _NAMES}), sync=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it from a file.

        Raises:
            DatasetError: The file is missing or damaged.
        """
        require_regular(path, DatasetError)
        held = unpack(path.read_bytes(), str(path))
        missing = [name for name in _NAMES if name not in held]
        if missing:
            raise DatasetError(f"{path} lacks {missing[0]}; remove it, and it is computed again")
        energy, rest, jump = (float(held[name]) for name in ("energy", "rest", "jump"))
        return cls(
            held["positions"], held["weights"], held["density"], held["matrix"], energy, rest, int(held["cycles"]),
            bool(held["retried"]), jump,
        )  # fmt: skip


def freeze(
    functional: FunctionalNetwork,
    atoms: Atoms,
    start: FrozenDensity | None = None,
    *,
    conv_tol: float = 1e-9,
    max_cycle: int = 50,
) -> tuple[FrozenDensity, Any]:
    """Converge the density of a molecule with a functional.

    Args:
        functional: Functional, which is not changed.
        atoms: Structure, Angstrom; its charge is `info['charge']`.
        start: Density of the same molecule to start from, such as that of earlier weights; None for PySCF's start.
        conv_tol: Change of energy between cycles at convergence, Ha.
        max_cycle: Largest number of cycles of an attempt.

    Returns:
        The density, and PySCF's mean field.

    Raises:
        OptionError, UnknownElementError, StructureError: The molecule is not one for the functional; see `rks`.
        ConvergenceError: The SCF does not converge, with shifted levels either.
    """
    mf = rks(functional, build_mole(atoms, functional.basis), allow_charge=True)
    mf.conv_tol, mf.max_cycle, mf.verbose = conv_tol, max_cycle, 0
    no_file(mf)
    cycles, retried = converged(mf, dm0=None if start is None else start.matrix)
    grid, matrix, energy = density_grid(mf), np.asarray(mf.make_rdm1(), dtype=np.float64), float(mf.e_tot)
    constant, jump = functional.constant(atoms.numbers), float("nan")
    with torch.no_grad():
        rest = energy - constant - float(functional(grid, nuclei(mf.mol)))
        if start is not None:
            jump = energy - constant - start.rest - float(functional(start.grid(), nuclei(mf.mol)))
    arrays = (grid.positions.numpy(), grid.weights.numpy(), grid.density.detach().numpy())
    return FrozenDensity(*arrays, matrix, energy, rest, cycles, retried, jump), mf
