"""Atomic orbitals on the points of a grid, and what follows from them: densities, potentials, forces on orbitals.

Orbitals are kept in blocks of points that fit into the cache of a processor. They are computed once for a geometry where
the memory suffices, and at every use where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlff_calc.electronic.scf.pyscf_door import pyscf_module

BLOCK_BYTES = 1 << 20
"""Size of a block of orbitals with their gradients, bytes. Larger ones leave the cache, smaller ones cost more calls."""
_SECOND = torch.tensor([[4, 5, 6], [5, 7, 8], [6, 8, 9]])
"""Places of second derivatives in PySCF's order (xx, xy, xz, yy, yz, zz)."""


@dataclass(frozen=True)
class Factors:
    """A density matrix as a sum of squares, P = C diag(signs) C^T.

    Attributes:
        columns: C [n_orbitals, n_columns].
        signs: 1 or -1 for each column [n_columns].
    """

    columns: Tensor
    signs: Tensor

    @classmethod
    def of(cls, density: Any) -> Factors:
        """Take a density matrix apart: by its occupied orbitals where PySCF has noted them, else by its eigenvectors."""
        coefficients = getattr(density, "mo_coeff", None)
        if coefficients is not None and np.ndim(coefficients) == 2:
            occupations = np.asarray(density.mo_occ, dtype=np.float64)
            vectors = np.asarray(coefficients)
        else:
            plain = np.asarray(density, dtype=np.float64)
            occupations, vectors = np.linalg.eigh(0.5 * (plain + plain.T))
        used = np.abs(occupations) > 1e-16 * max(1.0, np.abs(occupations).max(initial=0.0))
        columns = vectors[:, used] * np.sqrt(np.abs(occupations[used]))
        return cls(torch.from_numpy(np.ascontiguousarray(columns)), torch.from_numpy(np.sign(occupations[used])))


class GridOrbitals:
    """Orbitals of a molecule on points.

    Args:
        mol: Molecule of PySCF.
        positions: Points [n_points, 3], Bohr.
        memory: Largest memory for keeping orbitals, bytes.
    """

    def __init__(self, mol: Any, positions: NDArray[np.float64], memory: float = 2e9) -> None:
        self.mol, self.positions = mol, positions
        self.n_orbitals, n_points = int(mol.nao), len(positions)
        self._block = max(256, min(8192, BLOCK_BYTES // (32 * max(self.n_orbitals, 1))))
        self._keep = 32.0 * self.n_orbitals * n_points <= memory
        self._kept: list[Tensor] = []

    def density(self, factors: Factors, rows: int) -> Tensor:
        """Return n, its gradient and tau (`rows` 5) or not (`rows` 4) on all points [rows, n_points]."""
        found = torch.empty((rows, len(self.positions)), dtype=torch.float64)
        turned = factors.columns.t().contiguous()
        signs = factors.signs.unsqueeze(1)
        positive = bool((factors.signs > 0.0).all())
        for part, orbitals in self._blocks():
            psi = turned @ orbitals  # [4, n_columns, n_block]
            value = psi[0] if positive else psi[0] * signs
            found[:4, part] = (psi * value).sum(dim=1)
            if rows > 4:
                slopes = psi[1:] if positive else psi[1:] * signs
                found[4, part] = 0.5 * (psi[1:] * slopes).sum(dim=(0, 1))
        found[1:4] *= 2.0
        return found

    def potential(self, slopes: Tensor) -> Tensor:
        """Return the matrix [n_orbitals, n_orbitals] of the derivatives of an energy by the rows of the density.

        Args:
            slopes: Derivatives of the energy by n, its gradient and tau at all points [4 or 5, n_points].
        """
        n = self.n_orbitals
        half, whole = torch.zeros((n, n), dtype=torch.float64), torch.zeros((n, n), dtype=torch.float64)
        for part, orbitals in self._blocks():
            v = slopes[:, part]
            summed = orbitals[0] * (0.5 * v[0])
            for axis in (1, 2, 3):
                summed.addcmul_(orbitals[axis], v[axis])
            half.addmm_(summed, orbitals[0].t())
            if slopes.shape[0] > 4:
                for axis in (1, 2, 3):
                    whole.addmm_(orbitals[axis] * (0.5 * v[4]), orbitals[axis].t())
        return half + half.t() + whole

    def motion(self, factors: Factors, slopes: Tensor) -> Tensor:
        """Return the derivatives of the energy by moves of single orbitals [3, n_orbitals], points at rest.

        Args:
            factors: Density matrix.
            slopes: As for `potential`.
        """
        found = torch.zeros((3, self.n_orbitals), dtype=torch.float64)
        columns, turned = factors.columns, factors.columns.t()
        signs = factors.signs.unsqueeze(1)
        for part, orbitals in self._blocks(2):
            v = slopes[:, part]
            psi = (turned @ orbitals[:4]) * signs
            first = columns @ (2.0 * (psi * v[:4].unsqueeze(1)).sum(dim=0))
            mixed = 2.0 * v[1:4].unsqueeze(1) * psi[0]
            if slopes.shape[0] > 4:
                mixed = mixed + v[4] * psi[1:]
            second = columns @ mixed
            for axis in range(3):
                moved = orbitals[1 + axis] * first
                moved.add_((orbitals[_SECOND[axis]] * second).sum(dim=0))
                found[axis] -= moved.sum(dim=1)
        return found

    def _blocks(self, derivatives: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of points with orbitals and derivatives [4 or 10, n_orbitals, n_block]."""
        begins = range(0, len(self.positions), self._block)
        if derivatives == 1 and self._kept:
            for begin, orbitals in zip(begins, self._kept, strict=True):
                yield slice(begin, begin + orbitals.shape[2]), orbitals
            return
        evaluate, kept = pyscf_module("pyscf.dft.numint").eval_ao, []
        for begin in begins:
            positions = self.positions[begin : begin + self._block]
            values = evaluate(self.mol, positions, deriv=derivatives)
            orbitals = torch.from_numpy(np.ascontiguousarray(values.transpose(0, 2, 1)))
            if self._keep and derivatives == 1:
                kept.append(orbitals)
            yield slice(begin, begin + len(positions)), orbitals
        self._kept = kept or self._kept
