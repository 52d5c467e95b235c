"""Labels: the self-consistent matrix of a molecule, with what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray

from mlff_calc.electronic.scf.mean_field import converged, forces_of, mean_field
from mlff_calc.electronic.scf.orders import to_ours
from mlff_calc.electronic.scf.pyscf_door import pyscf_module
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import SimulationError

if TYPE_CHECKING:
    from ase import Atoms

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MatrixLabel:
    """What an SCF gives. Orbitals are in our order.

    Attributes:
        energy: Total energy, Ha.
        forces: Forces [n_atoms, 3], Ha/Bohr; None where they were not asked for.
        fock: Fock or Kohn-Sham matrix of the converged density [n, n], Ha.
        overlap: Overlap of the orbitals [n, n].
        initial: Fock matrix of the density minao [n, n], Ha.
        cycles: Number of cycles of the SCF.
    """

    energy: float
    forces: FloatArray | None
    fock: FloatArray
    overlap: FloatArray
    initial: FloatArray
    cycles: int


def label(atoms: Atoms, settings: SCFSettings, gradient: bool = True) -> MatrixLabel:
    """Label a molecule. The two Fock matrices are those that the SCF builds anyway.

    Args:
        atoms: Structure, Angstrom; its charge is `info['charge']`.
        settings: Level of the label.
        gradient: Whether to compute forces, see `forces_of`.

    Raises:
        OptionError: PySCF is not installed, or the settings are not supported; see `SCFSettings.check`.
        StructureError: The structure is not a molecule with paired electrons; see `check_structure`.
        ConvergenceError: The SCF does not converge.
        SimulationError: A value is not finite.
    """
    mf = mean_field(atoms, settings)
    initial: list[Any] = []
    final: list[Any] = []

    def begin(values: dict[str, Any]) -> None:
        initial.append(mf.get_fock(values["h1e"], values["s1e"], values["vhf"], values["dm"]))

    def end(values: dict[str, Any]) -> None:
        final.append((values["fock"], values["s1e"]))

    mf.pre_kernel, mf.post_kernel = begin, end  # hooks of PySCF, with the variables of its loop
    try:
        cycles = converged(mf).cycles
    finally:
        del mf.pre_kernel, mf.post_kernel  # a mean field that refers to itself would stay in memory
    (fock, overlap), forces = final[-1], forces_of(mf) if gradient else None
    matrices = [np.asarray(to_ours(mf.mol, matrix), dtype=np.float64) for matrix in (fock, overlap, initial[0])]
    found = MatrixLabel(float(mf.e_tot), forces, matrices[0], matrices[1], matrices[2], cycles)
    for name in ("forces", "fock", "overlap", "initial"):
        values = getattr(found, name)
        if values is not None and not np.isfinite(values).all():
            raise SimulationError(f"{name} of {atoms.get_chemical_formula()} holds values that are not finite")
    return found


def overlap_of(atoms: Atoms, basis: str) -> FloatArray:
    """Compute the overlap of the orbitals of a molecule [n, n], in our order.

    Args:
        atoms: Structure, Angstrom; its charge is `info['charge']`.
        basis: Name of a basis.

    Raises:
        OptionError: PySCF is not installed, or does not know the basis.
        StructureError: The structure is not a molecule with paired electrons.
    """
    mf = mean_field(atoms, SCFSettings("hf", basis))
    overlap: FloatArray = to_ours(mf.mol, mf.get_ovlp())
    return overlap


def initial_fock(atoms: Atoms, settings: SCFSettings) -> FloatArray:
    """Compute the Fock matrix of the density minao [n, n], Ha, in our order, by one Fock build.

    Args:
        atoms: Structure, Angstrom; its charge is `info['charge']`.
        settings: Level of the matrix.

    Raises:
        OptionError, StructureError: As for `label`.
    """
    mf = mean_field(atoms, settings)
    fock: FloatArray = to_ours(mf.mol, mf.get_fock(dm=mf.get_init_guess(mf.mol, "minao")))
    return fock


def basis_of(basis: str, numbers: ArrayLike) -> dict[str, Any]:
    """Describe the shells of some elements, as `OrbitalBasis.to_dict` does.

    Args:
        basis: Name of a basis.
        numbers: Atomic numbers.

    Raises:
        OptionError: PySCF is not installed, does not know the basis, or the basis lacks an element.
    """
    gto = pyscf_module("pyscf.gto")
    wanted = np.unique(np.asarray(numbers, dtype=np.int64)).tolist()
    SCFSettings("hf", basis).check(wanted)
    shells = {}
    for number in wanted:
        atom = gto.Mole()
        spin = number % 2
        atom.build(
            dump_input=False, parse_arg=False, verbose=0, atom=chemical_symbols[number], basis=basis, spin=spin, cart=False
        )  # fmt: skip
        shells[str(number)] = np.repeat(atom._bas[:, 1], atom._bas[:, 3]).tolist()
    return {"name": basis, "shells": shells}
