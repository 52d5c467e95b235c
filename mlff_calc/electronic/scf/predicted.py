"""What a learned Fock matrix tells of a molecule without an SCF: orbital energies, density, dipole, charges, energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from mlff_calc.electronic.scf.guess import PredictsFock, loaded
from mlff_calc.electronic.scf.labels import basis_of
from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.observables import MatrixProperties, matrix_properties_of, one_shot_energy
from mlff_calc.electronic.scf.orders import to_ours, to_theirs
from mlff_calc.electronic.scf.pyscf_door import check_structure
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import OptionError, SimulationError, StructureError, UnknownElementError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PredictedMolecule:
    """A predicted Fock matrix and what follows from it.

    Attributes:
        properties: Orbital energies, gap, dipole, charges, density and orbitals, see `MatrixProperties`.
        fock: Fock matrix [n, n] in our order, Hartree.
        overlap: Overlap matrix [n, n] in our order.
        initial: Fock matrix of the density minao [n, n] in our order, Hartree; None where the model does not need it.
        energy: Total energy of the functional for the density, Hartree; None where it was not asked for.
        mole: Molecule of PySCF.
    """

    properties: MatrixProperties
    fock: NDArray[np.float64]
    overlap: NDArray[np.float64]
    initial: NDArray[np.float64] | None
    energy: float | None
    mole: Any


def predict_properties(
    model: str | Path | PredictsFock, molecules: Sequence[Atoms], *, energy: bool = False
) -> list[PredictedMolecule]:
    """Predict Fock matrices in batches, and compute what follows from them without an SCF.

    Args:
        model: Name or folder of a trained model, or the model itself.
        molecules: Structures, Angstrom, closed shells; the charge is `info['charge']`.
        energy: Whether to compute the energies of the densities, which takes a Fock build for each molecule.

    Raises:
        OptionError: PySCF is not installed, or the level of the model is not known or not that of PySCF's basis.
        StructureError: A structure is not a molecule with paired electrons, or has another charge.
        UnknownElementError: A molecule has an element that the model does not know.
        SimulationError: A predicted matrix is not finite.
        PotentialFileError: There is no such model.
    """
    known = loaded(model)
    settings = check_level(known)
    for atoms in molecules:
        check_molecule(known, atoms)
    fields = [mean_field(atoms, settings) for atoms in molecules]
    overlaps = [np.asarray(mf.get_ovlp()) for mf in fields]
    ours = [to_ours(mf.mol, overlap) for mf, overlap in zip(fields, overlaps, strict=True)]
    initials = None
    if known.needs_initial:
        initials = [to_ours(mf.mol, mf.get_fock(dm=mf.get_init_guess(mf.mol, "minao"))) for mf in fields]
    focks = [np.asarray(one, dtype=np.float64) for one in known.predict(molecules, overlaps=ours, initials=initials)]
    for atoms, fock in zip(molecules, focks, strict=True):
        if not np.isfinite(fock).all():
            raise SimulationError(
                f"the predicted Fock matrix of {atoms.get_chemical_formula()} is not finite; look for overlapping atoms, or "
                "use the model in float64"
            )
    theirs = [to_theirs(mf.mol, fock) for mf, fock in zip(fields, focks, strict=True)]
    found = matrix_properties_of([mf.mol for mf in fields], theirs, overlaps)
    return [
        PredictedMolecule(
            one, focks[k], ours[k], None if initials is None else initials[k],
            one_shot_energy(fields[k], one.density) if energy else None, fields[k].mol,
        )
        for k, one in enumerate(found)
    ]


def check_level(model: PredictsFock) -> SCFSettings:
    """Return the level of a model whose orbitals are those of PySCF's basis.

    Raises:
        OptionError: The level is not known, PySCF is not installed, or its basis has other orbitals.
    """
    if model.settings is None:
        raise OptionError("the model does not say at which level it was trained; train it on matrices with settings")
    settings: SCFSettings = model.settings
    basis = getattr(model, "basis", None)
    if basis is not None:
        mine, pyscf = basis.to_dict()["shells"], basis_of(settings.basis, basis.elements)["shells"]
        wrong = [number for number in pyscf if list(mine[number]) != list(pyscf[number])]
        if wrong:
            raise OptionError(
                f"the basis {settings.basis!r} of this PySCF has the shells {pyscf[wrong[0]]} of "
                f"{chemical_symbols[int(wrong[0])]}, and the model was trained with {list(mine[wrong[0]])}; overlaps and "
                "charges would be wrong. Train a model for this basis"
            )
    return settings


def check_molecule(model: PredictsFock, atoms: Atoms) -> None:
    """Check that a structure is a molecule that a model knows.

    Raises:
        StructureError: The structure is not a molecule with paired electrons, or has another charge than the model.
        UnknownElementError: The molecule has an element that the model does not know.
    """
    charge, mine = check_structure(atoms), int(getattr(model, "charge", 0))
    elements = getattr(model, "elements", None)
    if elements is not None:
        unknown = sorted({chemical_symbols[number] for number in set(atoms.numbers.tolist()) - set(elements)})
        if unknown:
            raise UnknownElementError(
                f"{atoms.get_chemical_formula()} has {', '.join(unknown)}; the model knows "
                f"{', '.join(chemical_symbols[number] for number in elements)}. Use a model trained for these elements"
            )
    if charge != mine:
        raise StructureError(
            f"the molecule has a charge of {charge} e, and the model was trained for {mine} e. Give the charge as "
            "info['charge'] (charge=1 in an extxyz file), or use a model for this charge"
        )
