"""Results of solved mean fields in ASE's units."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import units
from numpy.typing import NDArray

from mlff_calc.electronic.scf.observables import dipole
from mlff_calc.electronic.scf.orders import atom_of_orbital
from mlff_calc.electronic.scf.properties import mulliken_charges
from mlff_calc.electronic.scf.pyscf_door import pyscf_module


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
    length = pyscf_module("pyscf.data.nist").BOHR
    gradient = mf.nuc_grad_method()
    gradient.verbose = 0
    if hasattr(gradient, "grid_response"):
        gradient.grid_response = grid_response
    found: NDArray[np.float64] = -np.asarray(gradient.kernel()) * (units.Hartree / length)
    return found
