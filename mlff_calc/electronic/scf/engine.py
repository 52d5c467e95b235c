"""What calculators need of PySCF: mean fields of ASE structures, and their results in ASE's units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from mlff_calc.electronic.scf.fits import same_functional
from mlff_calc.electronic.scf.observables import dipole
from mlff_calc.electronic.scf.orders import atom_of_orbital
from mlff_calc.electronic.scf.properties import mulliken_charges
from mlff_calc.errors import OptionError



@dataclass(frozen=True)
class Level:
    """Level of theory of a molecule's SCF.

    Attributes:
        xc: Functional, PySCF's spelling.
        basis: Basis, PySCF's spelling.
        charge: Charge, e.
        grid_level: Level of the grid, 0 to 9.
        conv_tol: Tolerance of the energy, Hartree.
        density_fit: Whether to fit densities.
        max_cycle: Largest number of cycles.

    Raises:
        OptionError: A value is out of range, or PySCF does not know a name or is not installed.
    """

    xc: str
    basis: str
    charge: int = 0
    grid_level: int = 3
    conv_tol: float = 1e-9
    density_fit: bool = False
    max_cycle: int = 50

    def __post_init__(self) -> None:
        try:
            import pyscf  # noqa: F401
        except ImportError as error:
            raise OptionError('PySCF is not installed; pip install "mlff_calc[electronic]"') from error
        if self.grid_level not in range(10):
            raise OptionError(f"the level of the grid is {self.grid_level}; choose 0 to 9")
        if not self.conv_tol > 0.0:
            raise OptionError(f"the tolerance of the SCF is {self.conv_tol} Hartree; give a positive number, 1e-9 for example")
        same_functional(self.xc, self.xc)


def mean_field(atoms: Atoms, level: Level) -> Any:
    """Return a restricted Kohn-Sham mean field of a structure, not yet solved.

    Raises:
        OptionError: The molecule is no closed shell, or the basis has no functions for an element.
    """
    from pyscf import dft, gto

    electrons = int(atoms.numbers.sum()) - level.charge
    if electrons % 2 or electrons <= 0:
        raise OptionError(
            f"{atoms.get_chemical_formula()} with a charge of {level.charge} e has {electrons} electrons, which are no closed "
            "shell; give its charge (charge=...)"
        )
    mol = gto.Mole(verbose=0)
    mol.atom = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))
    mol.unit, mol.basis, mol.charge = "Angstrom", level.basis, level.charge
    try:
        mol.build(dump_input=False, parse_arg=False)
    except (KeyError, RuntimeError, ValueError) as error:
        raise OptionError(f"PySCF cannot use the basis {level.basis!r} for {atoms.get_chemical_formula()}: {error}") from error
    mf = dft.RKS(mol)
    mf.xc, mf.grids.level, mf.conv_tol, mf.max_cycle = level.xc, level.grid_level, level.conv_tol, level.max_cycle
    mf.chkfile = None
    return mf.density_fit() if level.density_fit else mf


def ase_results(mf: Any) -> dict[str, Any]:
    """Return energy (eV), dipole [3] (e*Angstrom) and Mulliken charges [n_atoms] (e) of a solved mean field."""
    mol, matrix = mf.mol, np.asarray(mf.make_rdm1())
    energy = float(mf.e_tot) * units.Hartree
    charges = mulliken_charges(matrix, mf.get_ovlp(), mol.atom_charges(), atom_of_orbital(mol))
    return {"energy": energy, "free_energy": energy, "dipole": dipole(mol, matrix), "charges": charges}


def ase_forces(mf: Any, *, grid_response: bool = True) -> NDArray[np.float64]:
    """Return forces [n_atoms, 3] of a solved mean field, eV/Angstrom.

    Args:
        mf: Solved mean field.
        grid_response: Whether the motion of the grid with the nuclei is contained.
    """
    from pyscf.data.nist import BOHR

    gradient = mf.nuc_grad_method()
    gradient.verbose = 0
    if hasattr(gradient, "grid_response"):
        gradient.grid_response = grid_response
    found: NDArray[np.float64] = -np.asarray(gradient.kernel()) * (units.Hartree / BOHR)
    return found
