"""Dipoles, energies and cube files of densities by PySCF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlff_calc.electronic.scf.orders import atom_of_orbital
from mlff_calc.electronic.scf.properties import (
    density,
    frontier,
    loewdin_charges,
    mulliken_charges,
    occupied,
    orbitals,
)
from mlff_calc.electronic.scf.pyscf_door import pyscf_module
from mlff_calc.errors import OptionError

DEBYE = 0.20819433442462576
"""Dipole of a Debye, e*Angstrom; that of ASE (`ase.units.Debye`)."""
BOHR_ANGSTROM = 0.529177210903
"""Length of a Bohr, Angstrom."""


@dataclass(frozen=True)
class MatrixProperties:
    """What follows from a Fock matrix without self-consistency.

    Attributes:
        orbital_energies: Orbital energies [n], Hartree.
        homo, lumo, gap: Energies, Hartree.
        dipole: Dipole [3], e*Angstrom, about the origin of the coordinates.
        mulliken_charges, loewdin_charges: Charges [n_atoms], e.
        density: Density matrix [n, n] in PySCF's order.
        coefficients: Orbitals [n, n] in PySCF's order.
    """

    orbital_energies: NDArray[np.float64]
    homo: float
    lumo: float
    gap: float
    dipole: NDArray[np.float64]
    mulliken_charges: NDArray[np.float64]
    loewdin_charges: NDArray[np.float64]
    density: NDArray[np.float64]
    coefficients: NDArray[np.float64]


def matrix_properties(mol: Any, fock: NDArray[np.float64]) -> MatrixProperties:
    """Return what follows from a Fock matrix.

    Args:
        mol: Molecule of PySCF, a closed shell.
        fock: Fock matrix [n, n], Hartree, in PySCF's order.

    Raises:
        OptionError: The matrix does not fit the molecule, or the electrons are odd in number.
    """
    overlap = mol.intor_symmetric("int1e_ovlp")
    found = orbitals(np.asarray(fock), overlap)
    matrix = density(found.coefficients, mol.nelectron)
    edge = frontier(found.energies, mol.nelectron)
    nuclei, owner = mol.atom_charges(), atom_of_orbital(mol)
    return MatrixProperties(
        found.energies,
        float(edge.homo),
        float(edge.lumo),
        float(edge.gap),
        dipole(mol, matrix),
        mulliken_charges(matrix, overlap, nuclei, owner),
        loewdin_charges(matrix, overlap, nuclei, owner),
        matrix,
        found.coefficients,
    )


def dipole(mol: Any, density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the dipole [3] of a density matrix [n, n] in PySCF's order, e*Angstrom, about the origin; see `DEBYE`.

    That of a charged molecule depends on the origin.
    """
    with mol.with_common_orig((0.0, 0.0, 0.0)):
        integrals = mol.intor_symmetric("int1e_r", comp=3)
    electrons = np.einsum("xij,ji->x", integrals, np.asarray(density))
    found: NDArray[np.float64] = (mol.atom_charges() @ mol.atom_coords() - electrons) * BOHR_ANGSTROM
    return found


def one_shot_energy(mf: Any, density: NDArray[np.float64]) -> float:
    """Return the total energy of the functional for a density matrix [n, n] in PySCF's order, Hartree; one Fock build.

    It is above the self-consistent one by the square of the error of the density.
    """
    return float(mf.energy_tot(np.asarray(density)))


def write_cubes(
    mol: Any,
    density: NDArray[np.float64],
    folder: str | Path,
    *,
    coefficients: NDArray[np.float64] | None = None,
    wanted: tuple[str | int, ...] = ("density", "homo", "lumo"),
    resolution: float = 0.2,
) -> Mapping[str, Path]:
    """Write cube files of the electron density and of orbitals.

    Args:
        mol: Molecule of PySCF, a closed shell.
        density: Density matrix [n, n] in PySCF's order.
        folder: Folder for NAME.cube, which is created if necessary; older files are replaced.
        coefficients: Orbitals [n, n] in PySCF's order; None writes no orbitals.
        wanted: What to write: `density`, `homo`, `lumo`, or numbers of orbitals from 0 (`orbital_4.cube`).
        resolution: Distance of points, Bohr.

    Returns:
        Files by name.

    Raises:
        OptionError: A name is unknown, an orbital does not exist, or orbitals were not given.
    """
    if not resolution > 0.0:
        raise OptionError(f"the distance of points is {resolution} Bohr; give a positive number, 0.2 for example")
    n = occupied(mol.nelectron, mol.nao)
    columns = {"homo": n - 1, "lumo": n}
    named: list[tuple[str, int | None]] = []
    for one in wanted:
        if one == "density":
            named.append(("density", None))
            continue
        column = columns.get(one) if isinstance(one, str) else int(one)
        if column is None or not 0 <= column < mol.nao:
            raise OptionError(f"there is no orbital {one!r} among {mol.nao}; choose density, homo, lumo, or a number from 0")
        if coefficients is None:
            raise OptionError(f"a cube of {one!r} needs the coefficients of the orbitals; give them, or ask for the density")
        named.append((one if isinstance(one, str) else f"orbital_{column}", column))
    cubegen = pyscf_module("pyscf.tools.cubegen")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, which in named:
        files[name] = path = place / f"{name}.cube"
        if which is None:
            cubegen.density(mol, str(path), np.asarray(density), resolution=resolution)
        elif coefficients is not None:
            cubegen.orbital(mol, str(path), np.ascontiguousarray(coefficients[:, which]), resolution=resolution)
    return files
