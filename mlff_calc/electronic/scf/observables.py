"""Dipoles, energies and cube files of densities by PySCF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    return matrix_properties_of([mol], [np.asarray(fock)], [mol.intor_symmetric("int1e_ovlp")])[0]


def matrix_properties_of(
    mols: Sequence[Any], focks: Sequence[NDArray[np.float64]], overlaps: Sequence[NDArray[np.float64]]
) -> list[MatrixProperties]:
    """Return what follows from the Fock matrices of many molecules; those of the same atoms are computed together.

    Args:
        mols: Molecules of PySCF, closed shells.
        focks: Fock matrices [n, n], Hartree, in PySCF's order.
        overlaps: Overlap matrices [n, n], in PySCF's order.

    Raises:
        OptionError: A matrix does not fit its molecule, or the electrons are odd in number.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for k, (mol, fock) in enumerate(zip(mols, focks, strict=True)):
        groups.setdefault((tuple(mol.atom_charges()), mol.nelectron, fock.shape), []).append(k)
    found: dict[int, MatrixProperties] = {}
    for (nuclei, n_electrons, _), members in groups.items():
        overlap = np.stack([overlaps[k] for k in members])
        solved = orbitals(np.stack([focks[k] for k in members]), overlap)
        matrices = density(solved.coefficients, n_electrons)
        edge, owner = frontier(solved.energies, n_electrons), atom_of_orbital(mols[members[0]])
        mulliken = mulliken_charges(matrices, overlap, nuclei, owner)
        loewdin = loewdin_charges(matrices, overlap, nuclei, owner)
        for row, k in enumerate(members):
            found[k] = MatrixProperties(
                solved.energies[row], float(edge.homo[row]), float(edge.lumo[row]), float(edge.gap[row]),
                dipole(mols[k], matrices[row]), mulliken[row], loewdin[row], matrices[row], solved.coefficients[row],
            )  # fmt: skip
    return [found[k] for k in range(len(mols))]


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
