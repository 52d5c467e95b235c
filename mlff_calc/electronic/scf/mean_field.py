"""PySCF's mean fields with our settings, converged or refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlff_calc.electronic.scf.pyscf_door import build_mole, pyscf_module
from mlff_calc.electronic.scf.settings import SCFSettings, is_pople
from mlff_calc.errors import ConvergenceError, MLFFError, OptionError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

LEVEL_SHIFT = 0.3
"""Shift of virtual orbitals in the second attempt, Ha. A larger value is slower and converges more molecules."""


def mean_field(atoms: Atoms, settings: SCFSettings, make: Callable[[Any], Any] | None = None) -> Any:
    """Make PySCF's mean field of a molecule; nothing is computed.

    Args:
        atoms: Structure, Angstrom; its charge is `info['charge']`.
        settings: Functional, basis, grid and thresholds.
        make: Function from PySCF's molecule to a Kohn-Sham mean field with a functional that is not in PySCF; None for the
            functional of the settings.

    Returns:
        `pyscf.dft.RKS`, or `pyscf.scf.RHF` for the functional `hf`; density-fitted where the settings say so. It starts
        from the density minao (one with `make`: from `cold_start` of its basis) and prints nothing.

    Raises:
        OptionError: PySCF is not installed, or does not know the functional or basis; see `SCFSettings.check`.
        StructureError: The structure is not a molecule with paired electrons; see `check_structure`.
    """
    settings.check(atoms.numbers[atoms.numbers > 0])
    mole = build_mole(atoms, settings.basis)
    if make is not None:
        mf = make(mole)
        mf.grids.level = settings.grid_level
    elif settings.is_hartree_fock:
        mf = pyscf_module("pyscf.scf").RHF(mole)
    else:
        mf = pyscf_module("pyscf.dft").RKS(mole)
        # b3lypg is VWN-RPA whatever the configuration file of PySCF says of b3lyp
        mf.xc = "b3lypg" if settings.level()[0] == "b3lyp" else settings.xc
        mf.grids.level = settings.grid_level
    if settings.density_fit:
        mf = mf.density_fit()
    mf.conv_tol, mf.max_cycle, mf.verbose = settings.conv_tol, settings.max_cycle, 0
    mf.init_guess = "minao" if make is None else cold_start(settings.basis)
    no_file(mf)
    return mf


def cold_start(basis: Any) -> str:
    """Return the name of PySCF's start that is safe in a basis.

    The start minao goes wrong for some molecules in basis sets of Pople: in 6-311+G(3df,2p) the energy after the first cycle
    may be far above zero. There, the start is the superposition of atoms in that basis.

    Args:
        basis: Basis of a molecule of PySCF.

    Source: PySCF issue 3015.
    """
    return "atom" if isinstance(basis, str) and is_pople(basis) else "minao"


def initial_density(mf: Any, start: str = "") -> Any:
    """Compute a start of PySCF [n, n], without its warnings about functions that it calls itself.

    Args:
        mf: Mean field.
        start: Name of the start; empty for `atom` where the mean field names it, and for minao otherwise.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return mf.get_init_guess(mf.mol, start or ("atom" if mf.init_guess == "atom" else "minao"))


def no_file(mf: Any) -> None:
    """Have a mean field write no file; the one of its last cycle in the temporary folder would serve nobody."""
    mf.chkfile = None
    opened = getattr(mf, "_chkfile", None)  # PySCF has opened it already
    if opened is not None:
        opened.close()
        mf._chkfile = None


class Convergence(NamedTuple):
    """What it took to converge a mean field.

    Attributes:
        cycles: Number of cycles of all attempts, without the last diagonalization that PySCF adds.
        retried: Whether there was a second attempt.
    """

    cycles: int
    retried: bool


def converged(mf: Any, dm0: Any = None, again: Callable[[], Any] | None = None) -> Convergence:
    """Run a mean field until it is self-consistent, with one second attempt with shifted levels.

    Args:
        mf: Mean field of PySCF. Its callback, if any, is called too.
        dm0: Density to start from, in PySCF's order; None for the start that the mean field names.
        again: Function that gives the density of the second attempt; None for the last density of the first one.

    Raises:
        ConvergenceError: Neither attempt converged; carries the norms of the orbital gradient in all cycles.
    """
    gradients: list[float] = []
    callback, shift = mf.callback, mf.level_shift

    def note(values: dict[str, Any]) -> None:
        gradients.append(float(values["norm_gorb"]))
        if callable(callback):
            callback(values)

    mf.callback = note
    try:
        if _attempt(mf, dm0) is None:
            return Convergence(len(gradients), False)
        mf.level_shift = LEVEL_SHIFT
        density = again() if again is not None else mf.make_rdm1() if _has_orbitals(mf) else None
        problem = _attempt(mf, density)
        if problem is None:
            return Convergence(len(gradients), True)
    finally:
        mf.callback, mf.level_shift = callback, shift
    left = gradients[-1] if gradients else np.nan
    raise ConvergenceError(
        f"the SCF of {_words(mf)} did not converge in two attempts of {mf.max_cycle} cycles, the second with levels "
        f"shifted by {LEVEL_SHIFT} Ha ({problem}; orbital gradient {left:.2g}); allow more cycles (max_cycle), or check the "
        "structure and its charge",
        gradients,
    )


def _attempt(mf: Any, density: Any) -> str | None:
    """Run the kernel once, and say what is wrong; None where it has converged."""
    try:
        mf.kernel(dm0=density)
    except MLFFError:
        raise
    except ValueError as error:  # diagonalizations of values that are not finite, or that fail (LinAlgError)
        mf.converged, mf.mo_coeff = False, None
        return f"it broke down: {error}"
    return None if mf.converged and np.isfinite(mf.e_tot) else f"its last energy is {mf.e_tot:.8g} Ha"


def _has_orbitals(mf: Any) -> bool:
    return mf.mo_coeff is not None and bool(np.isfinite(mf.mo_coeff).all())


def _words(mf: Any) -> str:
    from ase.formula import Formula

    symbols = [mf.mol.atom_pure_symbol(k) for k in range(mf.mol.natm)]
    return f"{Formula.from_list(symbols).format('hill')} with charge {mf.mol.charge}"


def forces_of(mf: Any) -> NDArray[np.float64]:
    """Compute the forces of a converged mean field [n_atoms, 3], Ha/Bohr.

    The motion of the grid with the nuclei is contained, so that forces are derivatives of the energy and their sum is zero;
    PySCF leaves it out by default. Nonlocal correlation, for which PySCF does not have it, is computed without.

    Raises:
        OptionError: PySCF has no gradient for the functional.
    """
    try:
        gradient = mf.nuc_grad_method()
        gradient.verbose = 0
        if hasattr(mf, "xc"):
            gradient.grid_response = not mf.do_nlc()
        return -np.asarray(gradient.kernel(), dtype=np.float64)
    except NotImplementedError as error:
        raise OptionError(f"PySCF has no gradient for {getattr(mf, 'xc', 'hf')} ({error}); leave the forces out") from error
