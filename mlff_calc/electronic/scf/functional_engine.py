"""Learned functionals as mean fields of PySCF.

`rks` gives PySCF's own mean field with another numerical integrator (`functional_integrator.py`), so that cycles, density
fitting, checkpoints, level shifts and starts are PySCF's. What a functional cannot do (open shells, second derivatives,
graphics processors) is refused where PySCF would silently compute its base functional.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from mlff_calc.electronic.functional.bases import BASES
from mlff_calc.electronic.functional.grid import DensityGrid
from mlff_calc.electronic.functional.load import load_functional
from mlff_calc.electronic.functional.model import FunctionalNetwork
from mlff_calc.electronic.scf.functional_gradient import with_functional
from mlff_calc.electronic.scf.functional_integrator import functional_integrator
from mlff_calc.electronic.scf.functional_limits import Allowed, check_molecule
from mlff_calc.electronic.scf.mean_field import cold_start
from mlff_calc.electronic.scf.pyscf_door import check_mole, pyscf_module
from mlff_calc.errors import OptionError

if TYPE_CHECKING:
    import numpy as np


def rks(
    functional: FunctionalNetwork | str | Path,
    mol: Any,
    *,
    allow_charge: bool = False,
    allow_other_elements: bool = False,
    allow_other_basis: bool = False,
    allow_other_grid: bool = False,
) -> Any:
    """Make PySCF's restricted Kohn-Sham mean field of a molecule with a learned functional; nothing is computed.

    Its grid is that of the training, without pruning. It starts from the density minao, or `atom` in basis sets of Pople.
    Its energies contain the functional's constants of elements.
    `nuc_grad_method()` gives analytic gradients, by default without the response of the grid (`grid_response`).

    Args:
        functional: Functional, its name or its folder.
        mol: Molecule of PySCF, a closed shell.
        allow_charge: Whether molecules of other charges than those of the training are computed; the functional has not
            seen such densities.
        allow_other_elements: Whether elements are computed that it was not trained on; their errors are unknown, and they
            have no fitted constant.
        allow_other_basis: Whether another basis is used than in training, for which the functional's weights have
            compensated.
        allow_other_grid: Whether another grid is used than in training; its errors of integration differ.

    Raises:
        OptionError: PySCF is not installed, or charge or basis are not those of the training.
        UnknownElementError: An element is not one of the training.
        StructureError: The molecule is not a closed shell, or has ghost atoms.
        PotentialFileError: There is no such functional.
    """
    network = functional if isinstance(functional, FunctionalNetwork) else load_functional(functional)
    allowed = Allowed(allow_charge, allow_other_elements, allow_other_basis, allow_other_grid)
    check_mole(mol)
    check_molecule(network, mol, allowed)
    mf = pyscf_module("pyscf.dft").RKS(mol, xc=BASES[network.base])
    mf.grids.level, mf.grids.prune, mf.small_rho_cutoff = network.grid_level, None, 0
    mf.init_guess = cold_start(mol.basis if isinstance(mol.basis, str) else network.basis)
    mf._numint = functional_integrator(network, allowed)
    mf.functional = network
    return pyscf_module("pyscf.lib").set_class(mf, (FunctionalFace, type(mf)))


def density_grid(mf: Any, density: NDArray[np.float64] | None = None) -> DensityGrid:
    """Return the density of a mean field of `rks` on its grid, for training at frozen densities.

    Args:
        mf: Mean field.
        density: Density matrix; None for that of the solved mean field.
    """
    if mf.grids.coords is None:
        mf.grids.build(with_non0tab=True)
    density = mf.make_rdm1() if density is None else density
    grid: DensityGrid = mf._numint.density_grid(mf.mol, mf.grids, density)
    return grid


def nuclei(mol: Any) -> torch.Tensor:
    """Positions of the nuclei of a molecule [n_atoms, 3], Bohr, as the centres of a functional."""
    return torch.from_numpy(mol.atom_coords())


class FunctionalFace:
    """Mixed into PySCF's restricted Kohn-Sham mean field by `rks`."""

    __name_mixin__ = "Functional"
    _keys = frozenset({"functional"})
    functional: FunctionalNetwork
    mol: Any

    def nuc_grad_method(self) -> Any:
        """Return PySCF's object for nuclear gradients, with the functional's part."""
        return with_functional(super().nuc_grad_method())  # type: ignore[misc]

    Gradients = nuc_grad_method

    def init_guess_by_atom(self, *options: Any, **named: Any) -> Any:
        """Return the superposition of atoms, without PySCF's warnings about functions that it calls itself."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return super().init_guess_by_atom(*options, **named)  # type: ignore[misc]

    def energy_nuc(self) -> float:
        """Energy of the nuclei with the functional's constants of elements, Hartree."""
        numbers = [self.mol.atom_charge(k) for k in range(self.mol.natm)]
        return float(super().energy_nuc()) + self.functional.constant(numbers)  # type: ignore[misc]

    def density_fit(self, *options: Any, **named: Any) -> Any:
        """Return the same with fitted Coulomb integrals; see PySCF's `density_fit`."""
        fitted = super().density_fit(*options, **named)  # type: ignore[misc]
        if isinstance(fitted, _FittedFace):
            return fitted
        return pyscf_module("pyscf.lib").set_class(fitted, (_FittedFace, type(fitted)))

    def to_gpu(self, *_: Any, **__: Any) -> Any:
        """Refuse graphics processors.

        Raises:
            OptionError: Always.
        """
        raise OptionError("a learned functional has no form for gpu4pyscf; compute on the processor (leave out to_gpu)")

    def to_gks(self, *_: Any, **__: Any) -> Any:
        """Refuse generalized Kohn-Sham.

        Raises:
            OptionError: Always.
        """
        raise OptionError("a learned functional is for restricted Kohn-Sham; there is no generalized form (to_gks)")


class _FittedFace:
    """Mixed in before PySCF's density fitting, which has gradients of its own."""

    __name_mixin__ = "Learned"

    def nuc_grad_method(self) -> Any:
        """Return PySCF's object for nuclear gradients with density fitting, with the functional's part."""
        return with_functional(super().nuc_grad_method())  # type: ignore[misc]

    Gradients = nuc_grad_method
