"""PySCF's numerical integrator with a learned functional in the place of libxc.

PySCF passes points to functionals in blocks and without positions, so that `eval_xc` cannot carry a functional that is not
local. The integrator is therefore replaced as a whole: `nr_rks` computes the density on all points, E_xc by the network,
and V_xc = dE_xc/dP from one gradient by the density of the points. All other ways to the functional are errors, since they
would lead to its base functional.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlff_calc.electronic.functional.grid import DensityGrid
from mlff_calc.electronic.functional.model import FunctionalNetwork
from mlff_calc.electronic.functional.near import Near
from mlff_calc.electronic.scf.functional_limits import Allowed, check_molecule, check_use
from mlff_calc.electronic.scf.grid_orbitals import Factors, GridOrbitals
from mlff_calc.electronic.scf.pyscf_door import pyscf_module
from mlff_calc.errors import OptionError, SimulationError


@dataclass
class Place:
    """What depends on molecule and grid alone.

    Attributes:
        key: What it was computed for.
        orbitals: Orbitals on the points.
        positions: Points [n_points, 3], Bohr.
        weights: Weights [n_points].
        centres: Nuclei [n_atoms, 3], Bohr.
        near: Points near nuclei; None for a local functional.
    """

    key: tuple[Any, ...]
    orbitals: GridOrbitals
    positions: Tensor
    weights: Tensor
    centres: Tensor
    near: Near | None

    def grid(self, density: Tensor) -> DensityGrid:
        """The grid with a density."""
        return DensityGrid(self.positions, self.weights, density)


class Integrator:
    """Mixed into PySCF's `NumInt` by `functional_integrator`."""

    functional: FunctionalNetwork
    allowed: Allowed
    _place: Place | None = None

    def nr_rks(
        self,
        mol: Any,
        grids: Any,
        xc_code: str,
        dms: Any,
        relativity: int = 0,
        hermi: int = 1,
        max_memory: float = 2000.0,
        verbose: Any = None,
    ) -> tuple[Any, Any, Any]:
        """Return number of electrons, E_xc (Hartree) and V_xc [n, n]; arguments are those of PySCF's `nr_rks`.

        Raises:
            OptionError: The mean field has another grid or functional than that of the training.
            SimulationError: The functional gives values that are not finite.
        """
        check_use(self.functional, grids, xc_code, self.allowed)
        if np.ndim(dms) > 2:
            found = [self.nr_rks(mol, grids, xc_code, one, relativity, hermi, max_memory, verbose) for one in dms]
            return tuple(np.array([each[k] for each in found]) for k in range(3))  # type: ignore[return-value]
        place = self.place(mol, grids, max_memory)
        density = place.orbitals.density(Factors.of(dms), self.functional.rows)
        n_electrons = float(place.weights @ density[0])
        energy, slopes = self.slopes(place, density)
        return n_electrons, energy, place.orbitals.potential(slopes).numpy()

    def slopes(self, place: Place, density: Tensor) -> tuple[float, Tensor]:
        """Return E_xc, and its derivatives by the rows of the density at all points [rows, n_points].

        Raises:
            SimulationError: They are not finite.
        """
        with torch.enable_grad():
            density = density.requires_grad_()
            share = None
            if place.near is not None:
                with torch.no_grad():
                    share = self.functional.shares(place.near, density.shape[1])
            energy = self.functional(place.grid(density), place.centres, near=place.near, share=share)
            (slopes,) = torch.autograd.grad(energy.sum(), density)
        found = float(energy.detach())
        if not np.isfinite(found) or not bool(torch.isfinite(slopes).all()):
            raise SimulationError("the functional gives values that are not finite; look at the structure and its weights")
        return found, slopes

    def density_grid(self, mol: Any, grids: Any, density: Any) -> DensityGrid:
        """Return a density on the points of the grid; see `functional_engine.density_grid`."""
        place = self.place(mol, grids)
        return place.grid(place.orbitals.density(Factors.of(density), self.functional.rows))

    def place(self, mol: Any, grids: Any, max_memory: float = 2000.0) -> Place:
        """Return what depends on molecule and grid, which is kept until one of them changes."""
        key = (grids.coords, grids.weights, mol._atm.tobytes(), mol._bas.tobytes(), mol._env.tobytes())
        held = self._place
        if held is not None and all(a is b for a, b in zip(held.key[:2], key[:2], strict=True)) and held.key[2:] == key[2:]:
            return held
        check_molecule(self.functional, mol, self.allowed)
        positions = np.ascontiguousarray(grids.coords)
        points, weights = torch.from_numpy(positions), torch.from_numpy(np.ascontiguousarray(grids.weights))
        centres = torch.from_numpy(mol.atom_coords())
        with torch.no_grad():
            near = self.functional.near(DensityGrid(points, weights, points.new_zeros((4, len(points)))), centres)
        self._place = Place(key, GridOrbitals(mol, positions, 5e5 * max_memory), points, weights, centres, near)
        return self._place

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise OptionError(
            "a learned functional has energies, potentials and nuclear gradients of closed shells; second derivatives "
            "(TDDFT, Hessians, newton(), stability) and values by points (eval_xc) are not available"
        )

    eval_xc = eval_xc1 = eval_xc_eff = nr_rks_fxc = nr_rks_fxc_st = nr_uks_fxc = nr_nlc_vxc = _refuse
    cache_xc_kernel = cache_xc_kernel1 = nr_fxc = _refuse

    def nr_uks(self, *_: Any, **__: Any) -> Any:
        """Refuse open shells.

        Raises:
            OptionError: Always.
        """
        raise OptionError("a learned functional is for closed shells; unrestricted Kohn-Sham (UKS) is not available")

    def to_gpu(self, *_: Any, **__: Any) -> Any:
        """Refuse graphics processors.

        Raises:
            OptionError: Always.
        """
        raise OptionError("a learned functional has no form for gpu4pyscf; compute on the processor (leave out to_gpu)")

    def is_hybrid_xc(self, *_: Any, **__: Any) -> bool:
        """Whether exact exchange is contained: never (asked by versions of PySCF after 2.14)."""
        return False

    def is_nlc(self, *_: Any, **__: Any) -> bool:
        """Whether nonlocal correlation of PySCF is contained: never (asked by versions of PySCF after 2.14)."""
        return False


@cache
def _integrator_class() -> type:
    return type("FunctionalNumInt", (Integrator, pyscf_module("pyscf.dft.numint").NumInt), {})


def functional_integrator(functional: FunctionalNetwork, allowed: Allowed) -> Any:
    """Return an integrator for PySCF's mean fields.

    Args:
        functional: Functional.
        allowed: What is allowed beyond its training.
    """
    found = _integrator_class()()
    found.functional, found.allowed = functional, allowed
    return found
