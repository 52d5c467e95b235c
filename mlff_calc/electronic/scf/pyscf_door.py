"""The door to PySCF: its import, and molecules for it that are checked before anything is computed."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_calc.charges import charge_of
from mlff_calc.errors import OptionError, StructureError

if TYPE_CHECKING:
    from ase import Atoms

CURE = 'install it with: pip install "mlff_calc[electronic]"'
NEAREST = 0.2
"""Smallest distance of two nuclei, Angstrom. Raising it refuses structures that an SCF may still solve."""


def pyscf_module(name: str = "pyscf") -> Any:
    """Import PySCF or one of its modules.

    Args:
        name: Full name, such as `pyscf.dft`.

    Raises:
        OptionError: PySCF is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "pyscf":
            raise OptionError(f"PySCF needs the module {error.name}, which is not installed; {CURE}") from error
        raise OptionError(f"{name} is not there: self-consistent fields need PySCF; {CURE}") from error
    except ImportError as error:  # a compiled library of it cannot be loaded
        raise OptionError(f"PySCF cannot be loaded ({error}); {CURE}") from error


def one_thread() -> AbstractContextManager[Any]:
    """Return a `with` block in which PySCF has one thread; raises an OptionError where it is not installed."""
    block: AbstractContextManager[Any] = pyscf_module("pyscf.lib").with_omp_threads(1)
    return block


def check_structure(atoms: Atoms) -> int:
    """Check that a structure is a molecule with paired electrons.

    Args:
        atoms: Structure, Angstrom; its charge is `info['charge']`.

    Returns:
        Its charge.

    Raises:
        StructureError: It is empty or periodic, has ghost atoms, unpaired electrons, or atoms on top of each other.
    """
    numbers, positions = atoms.numbers, np.asarray(atoms.positions, dtype=np.float64)
    if not len(numbers):
        raise StructureError("the structure has no atoms")
    if not np.isfinite(positions).all():
        raise StructureError(f"the position of atom {int(np.argmin(np.isfinite(positions).all(axis=1)))} is not finite")
    if atoms.pbc.any():
        raise StructureError(
            f"the structure is periodic (pbc {atoms.pbc.tolist()}); matrices are of molecules. Set pbc to False if the "
            "cell means nothing"
        )
    if (numbers < 1).any():
        raise StructureError(
            f"atom {int(np.argmax(numbers < 1))} is a ghost (Z = {int(numbers.min())}); remove it, since matrices with "
            "ghost atoms are not supported"
        )
    _check_distances(positions)
    charge = charge_of(atoms)
    _check_spin(atoms)
    _check_electrons(int(numbers.sum()) - charge, charge)
    return charge


def _check_distances(positions: np.ndarray) -> None:
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    first, second = np.unravel_index(int(np.argmin(distances)), distances.shape)
    if distances[first, second] < NEAREST:
        raise StructureError(
            f"atoms {min(first, second)} and {max(first, second)} are {distances[first, second]:.3g} Angstrom apart; an SCF "
            f"needs {NEAREST} or more. Are the positions in Angstrom?"
        )


def _check_spin(atoms: Atoms) -> None:
    info = atoms.info
    open_shell = [
        f"info['{name}'] = {info[name]!r}"
        for name, closed in (("multiplicity", (0, 1)), ("spin", (0, 1)), ("magmom", (0,)))
        if info.get(name) is not None and not (np.ndim(info[name]) == 0 and info[name] in closed)
    ]
    if "initial_magmoms" in atoms.arrays and np.any(atoms.arrays["initial_magmoms"]):
        open_shell.append("initial magnetic moments")
    if open_shell:
        raise StructureError(f"the structure has {', '.join(open_shell)}; only closed shells (multiplicity 1) are supported")


def _check_electrons(n_electrons: int, charge: int) -> None:
    if n_electrons < 2 or n_electrons % 2:
        kind = "an odd number of electrons" if n_electrons % 2 else "too few electrons"
        raise StructureError(
            f"the molecule has {kind}, {n_electrons} with charge {charge}; only closed shells are supported. Give the "
            "charge of an ion as info['charge'] (charge=1 in an extxyz file)"
        )


def build_mole(atoms: Atoms, basis: str) -> Any:
    """Make PySCF's molecule of a structure.

    Args:
        atoms: Structure, Angstrom; its charge is `info['charge']`.
        basis: Name of a basis.

    Returns:
        A `pyscf.gto.Mole` in spherical orbitals that prints nothing and reads no command line.

    Raises:
        OptionError: PySCF is not installed.
        StructureError: See `check_structure`.
    """
    gto = pyscf_module("pyscf.gto")
    charge = check_structure(atoms)
    places = [(int(number), tuple(position)) for number, position in zip(atoms.numbers, atoms.positions, strict=True)]
    mole = gto.Mole()
    mole.build(
        dump_input=False, parse_arg=False, verbose=0, atom=places, basis=basis, charge=charge, spin=0,
        unit="Angstrom", cart=False, symmetry=False,
    )  # fmt: skip
    return mole


def check_mole(mole: Any) -> None:
    """Check that our orders and matrices cover a molecule of PySCF that somebody else has made.

    Args:
        mole: A `pyscf.gto.Mole`.

    Raises:
        OptionError: Its basis is Cartesian, or it has effective core potentials.
        StructureError: It has ghost atoms, unpaired electrons or an odd number of them.
    """
    ghosts = [k for k in range(mole.natm) if mole.atom_charge(k) < 1 and not mole.atom_nelec_core(k)]
    if ghosts:
        raise StructureError(f"atom {ghosts[0]} ({mole.atom_symbol(ghosts[0])}) is a ghost; remove it")
    if mole.has_ecp():
        symbols = sorted({mole.atom_symbol(k) for k in range(mole.natm) if mole.atom_nelec_core(k)})
        raise OptionError(
            f"{', '.join(symbols)} has an effective core potential, which is not supported; take an all-electron basis"
        )
    if mole.cart:
        raise OptionError("the basis is Cartesian (cart=True); matrices are in spherical orbitals. Set cart=False")
    if mole.spin:
        raise StructureError(f"the molecule has {mole.spin} unpaired electrons; only closed shells are supported")
    _check_electrons(int(mole.nelectron), int(mole.charge))
