"""Starts of PySCF's SCF from the Fock matrices of a model: `mf.kernel(dm0=guess(mf))`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from ase import Atoms

from mlff_calc.electronic.scf.first_steps import FirstSteps, Response
from mlff_calc.electronic.scf.fits import check_fits
from mlff_calc.electronic.scf.guard import Build, Guard, StartStats, kind_of, minao
from mlff_calc.electronic.scf.orders import atoms_of, to_ours, to_theirs
from mlff_calc.electronic.scf.properties import density, orbitals
from mlff_calc.electronic.scf.pyscf_door import pyscf_module
from mlff_calc.errors import OptionError

GRIDS_APART = 2
"""Largest difference to the model's level of grids at which the first structure of a molecule is damped. A larger value
damps errors of the grid, which are not those of a shift of charge."""


@runtime_checkable
class PredictsFock(Protocol):
    """What a guess needs of a model, see `MatrixModel` in docs/architecture.md.

    Attributes:
        settings: Level at which the model was trained, `SCFSettings`.
        needs_initial: Whether the model needs the Fock matrix of the density minao, which costs a Fock build.
    """

    settings: Any
    needs_initial: bool

    def predict(self, atoms_list: Sequence[Atoms], overlaps: Any = None, initials: Any = None) -> list[Any]:
        """Fock matrices [n, n] of molecules, Hartree, in the package's order of orbitals."""
        ...


class HamiltonianGuess:
    """Initial densities of closed-shell Kohn-Sham calculations by a model's Fock matrix.

        guess = HamiltonianGuess("water_fock")
        mf.kernel(dm0=guess(mf))

    A start that is worse than minao, by an estimate of its energy, is replaced by minao, see `Guard`; the Fock matrix that
    this needs is handed to the SCF. Where the model needs the Fock matrix of minao, the first two steps of the SCF are
    damped as `FirstSteps` says. Results do not depend on the model within the tolerance of the SCF.

    Args:
        model: Name or folder of a trained model, or the model itself.
        guard: Judge of starts, whose counts these are; None for a new one.

    Attributes:
        model: The model.
        response: What was learned for first steps.

    Raises:
        PotentialFileError: There is no such model.
        OptionError: The object predicts no Fock matrices.
    """

    def __init__(self, model: str | Path | PredictsFock, guard: Guard | None = None) -> None:
        self.model: PredictsFock = loaded(model)
        self._guard = Guard() if guard is None else guard
        self.response = Response()

    @property
    def stats(self) -> StartStats:
        """Counts of starts."""
        return self._guard.stats

    def __call__(self, mf: Any) -> Any:
        """Return the density matrix to start from, tagged with `mo_coeff` and `mo_occ` where it is the model's.

        Args:
            mf: Mean field of PySCF, restricted, at the model's level of theory; its settings are not changed.

        Raises:
            OptionError: Functional, basis, charge or spin are not those of the model, or the kind of mean field, ghost atoms
                or effective core potentials are not supported.
            UnknownElementError: The molecule has an element that the model does not know.
        """
        check_fits(mf, self.model)
        fock, initial = self.fock(mf)
        return self._guard.choose(mf, start_of(mf, fock), initial, self.steps(mf, fock, initial))

    def fock(self, mf: Any) -> tuple[Any, Build | None]:
        """Predict the Fock matrix of a mean field, without checks and guard.

        Returns:
            The Fock matrix [n, n], Hartree, in PySCF's order; and minao with its Fock matrix where the model needed it.
        """
        mol = mf.mol
        initial = minao(mf) if self.model.needs_initial else None
        begin = time.perf_counter()
        initials = None if initial is None else [to_ours(mol, np.asarray(initial.fock))]
        overlaps = [to_ours(mol, mf.get_ovlp())]
        predicted = self.model.predict([atoms_of(mol)], overlaps=overlaps, initials=initials)[0]
        self.stats.predict_s += time.perf_counter() - begin
        return to_theirs(mol, np.asarray(predicted, dtype=np.float64)), initial

    def steps(self, mf: Any, fock: Any, initial: Build | None) -> FirstSteps | None:
        """Return the first steps from a Fock matrix [n, n]; None without minao's, with damping or shifted levels.

        The first structure of a molecule on a grid far from the model's, whose error is another one, is left to DIIS.
        """
        changed = mf.level_shift or mf.damp
        if initial is None or changed or not np.isfinite(fock).all():
            return None
        kind = kind_of(mf)
        apart = abs(mf.grids.level - self.model.settings.grid_level) if hasattr(mf, "grids") else 0
        return FirstSteps(
            fock, initial.fock, mf.get_ovlp(), mf.mol.nelectron, self.response, kind,
            only_learn=apart > GRIDS_APART and not self.response.knows(kind),
        )  # fmt: skip


def start_of(mf: Any, fock: Any) -> Any:
    """Return the density of a Fock matrix [n, n], tagged with its orbitals; one of NaN if the matrix is not finite."""
    if not np.isfinite(fock).all():
        return np.full_like(fock, np.nan)
    found = orbitals(fock, mf.get_ovlp())
    return tagged(found.coefficients, mf.mol.nelectron)


def tagged(coefficients: Any, n_electrons: int) -> Any:
    """Return the density of orbitals [n, n_orbitals], lowest first, tagged with them."""
    occupations = np.zeros(coefficients.shape[1])
    occupations[: n_electrons // 2] = 2.0
    lib = pyscf_module("pyscf.lib")
    return lib.tag_array(density(coefficients, n_electrons), mo_coeff=coefficients, mo_occ=occupations)


def loaded(model: str | Path | PredictsFock) -> PredictsFock:
    """Return a model; one given by name or folder is loaded.

    Raises:
        PotentialFileError: There is no such model.
        OptionError: The object predicts no Fock matrices, or does not say at which level.
    """
    found: Any = model
    if isinstance(model, str | Path):
        from mlff_calc.electronic.hamiltonian import load_hamiltonian

        found = load_hamiltonian(model)
    if not isinstance(found, PredictsFock):
        raise OptionError(
            f"{type(found).__name__} predicts no Fock matrices; give the name or folder of a trained hamiltonian, or the "
            "network that load_hamiltonian returns"
        )
    if found.settings is None:
        name = model if isinstance(model, str | Path) else type(found).__name__
        raise OptionError(
            f"{name} does not say at which level it was trained; train on a file of `mlff data hamiltonian`, or name "
            "data.xc and data.basis in its recipe"
        )
    return found
