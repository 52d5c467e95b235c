"""Nuclear gradients of learned functionals in PySCF.

The energy depends on a nucleus through its orbitals, the centres of the functional's features and, with `grid_response`,
through points and weights of the grid:

    dE_xc/dR_A = sum_g [dE_xc/dn_g dn_g/dR_A + ...] + dE_xc/dR_A (centres) [+ dE_xc/dr_g dr_g/dR_A + dE_xc/dw_g dw_g/dR_A].

Points of an atom move with it. The energy does not change when everything moves, so that a move of a point is an opposite
move of all orbitals there and of nothing else but the functional's own view of the point's place. All other parts (core,
overlap, Coulomb, density fitting) are PySCF's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlff_calc.electronic.functional.grid import DensityGrid
from mlff_calc.electronic.scf.grid_orbitals import Factors, GridOrbitals
from mlff_calc.electronic.scf.pyscf_door import pyscf_module


class FunctionalGradients:
    """Mixed into PySCF's gradients of restricted Kohn-Sham mean fields, with density fitting or without."""

    base: Any
    mol: Any
    grids: Any
    grid_response: bool

    def get_veff(self, mol: Any = None, dm: Any = None) -> Any:
        """Return the derivative of the Coulomb potential, and note the functional's part for `extra_force`."""
        mol = self.mol if mol is None else mol
        dm = self.base.make_rdm1() if dm is None else dm
        coulomb = self.get_j(mol, dm)  # type: ignore[attr-defined]
        own = functional_gradient(self.base, dm, self.grids, grid_response=self.grid_response)
        tags = {"exc1_grid": own}
        if getattr(self, "auxbasis_response", False):
            tags["aux"] = coulomb.aux.sum((0, 1))
        return pyscf_module("pyscf.lib").tag_array(coulomb, **tags)

    def extra_force(self, atom_id: int, envs: dict[str, Any]) -> Any:
        """Return the functional's part of the gradient of an atom [3], with that of density fitting."""
        response, self.grid_response = self.grid_response, True  # PySCF's hook then adds exc1_grid
        try:
            return super().extra_force(atom_id, envs)  # type: ignore[misc]
        finally:
            self.grid_response = response


@cache
def _gradients_class(kind: type) -> type:
    return type(f"Functional{kind.__name__}", (FunctionalGradients, kind), {"__module__": kind.__module__})


def with_functional(gradients: Any) -> Any:
    """Give a gradient object of PySCF the functional of its mean field."""
    if not isinstance(gradients, FunctionalGradients):
        kind: type = type(gradients)
        gradients.__class__ = _gradients_class(kind)
    return gradients


def functional_gradient(mf: Any, dm: Any, grids: Any = None, *, grid_response: bool = False) -> NDArray[np.float64]:
    """Return the explicit derivative of E_xc by nuclei at a fixed density matrix [n_atoms, 3], Hartree/Bohr.

    Args:
        mf: Mean field of `rks`.
        dm: Density matrix [n, n].
        grids: Grid; None for that of the mean field.
        grid_response: Whether the motion of points and weights with the nuclei is contained.
    """
    grids = mf.grids if grids is None else grids
    if grids.coords is None:
        grids.build(with_non0tab=True)
    owners, weight_slopes = None, None
    positions, weights = grids.coords, grids.weights
    if grid_response:
        parts = list(pyscf_module("pyscf.grad.rks").grids_response_cc(grids))
        positions, weights = np.vstack([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        weight_slopes = torch.from_numpy(np.concatenate([np.asarray(part[2]) for part in parts], axis=2))
        owners = [len(part[1]) for part in parts]
    return _gradient(mf, dm, np.ascontiguousarray(positions), np.ascontiguousarray(weights), owners, weight_slopes)


def _gradient(
    mf: Any,
    dm: Any,
    positions: NDArray[np.float64],
    weights: NDArray[np.float64],
    owners: list[int] | None,
    weight_slopes: torch.Tensor | None,
) -> NDArray[np.float64]:
    """The gradient on given points; `owners` are the numbers of points of atoms that move with them."""
    network, mol = mf.functional, mf.mol
    factors = Factors.of(dm)
    with torch.enable_grad():
        density = GridOrbitals(mol, positions, 0.0).density(factors, network.rows).requires_grad_()
        grid = DensityGrid(torch.from_numpy(positions), torch.from_numpy(weights), density)
        centres = torch.from_numpy(mol.atom_coords()).requires_grad_()
        wanted = [density, centres]
        if owners is not None:
            wanted += [grid.positions.requires_grad_(), grid.weights.requires_grad_()]
        energy = network(grid, centres)
        slopes = torch.autograd.grad(energy.sum(), wanted, allow_unused=True)
    slopes = tuple(torch.zeros_like(one) if s is None else s for s, one in zip(slopes, wanted, strict=True))
    found = slopes[1].clone()
    begin = 0
    for atom, count in enumerate(owners or [len(positions)]):
        part = slice(begin, begin + count)
        begin += count
        moves = GridOrbitals(mol, positions[part], 0.0).motion(factors, slopes[0][:, part])
        for own, (first, last) in enumerate(mol.aoslice_by_atom()[:, 2:]):
            found[own] += moves[:, first:last].sum(dim=1)
        if owners is not None:
            found[atom] += slopes[2][part].sum(dim=0) - moves.sum(dim=1)
    if weight_slopes is not None:
        found += weight_slopes @ slopes[3]
    return found.detach().numpy()
