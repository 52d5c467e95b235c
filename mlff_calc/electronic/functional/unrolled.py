"""Self-consistent fields in torch, whose cycles are recorded: energies with derivatives by the weights of a functional.

    E[P] = tr(P h) + tr(P J[P]) / 2 + E_xc[n] + E_rest,        F = h + J[P] + V_xc,        P' = occupied density of F.

Where the field is self-consistent, the derivative by the weights is the explicit one (Hellmann-Feynman), and nothing needs
to be recorded. A recorded field also teaches a functional that its cycles converge. Matrices and orbitals on points come
from elsewhere (`Molecule`), such as `electronic/scf/functional_matrices.py`.

Source: Gao, Eberhard and Guennemann, "Learning equivariant non-local electron density functionals" (2024); DIIS by Pulay,
J. Comput. Chem. 3, 556 (1982).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mlff_calc.electronic.functional.grid import DensityGrid
from mlff_calc.electronic.functional.model import FunctionalNetwork
from mlff_calc.electronic.functional.near import Near
from mlff_calc.electronic.functional.occupied import occupied_density

SPACE = 8
"""Number of Fock matrices that are combined. Raising it helps little."""
FLAT = 1e-9
"""Size of the commutator of Fock matrix and density below which nothing is combined: the combination would be noise."""
_CUT = 1e-12


class OnPoints(Protocol):
    """Orbitals of a molecule on points: two linear maps, each the transpose of the other."""

    n_bytes: int

    def rows(self, matrix: Tensor, n_rows: int, filled: Tensor | None = None) -> Tensor:
        """Map a symmetric matrix [n, n] to density, its gradient and tau [n_rows, n_points].

        `filled` are occupied orbitals [n, n_occupied] where the matrix is twice their projector.
        """
        ...

    def matrix(self, slopes: Tensor) -> Tensor:
        """Map derivatives by the rows at all points to a symmetric matrix [n, n]."""
        ...


@dataclass(frozen=True, eq=False)
class Molecule:
    """What a self-consistent field consists of, in Hartree atomic units.

    Attributes:
        core: Energy of kinetic motion and nuclei [n, n].
        overlap: Overlap of orbitals [n, n].
        basis: Orthonormal combinations of orbitals [n, m].
        repulsion: Repulsion of pairs of orbitals [n_pairs, n_pairs].
        pairs: Numbers of the pairs [n, n].
        rest: Energy of nuclei, with constants of elements where they are wanted.
        n_occupied: Number of occupied orbitals.
        positions: Points [n_points, 3].
        weights: Their weights [n_points].
        centres: Nuclei [n_atoms, 3].
        near: Points near nuclei; None for a local functional.
        orbitals: Orbitals on the points.
    """

    core: Tensor
    overlap: Tensor
    basis: Tensor
    repulsion: Tensor
    pairs: Tensor
    rest: float
    n_occupied: int
    positions: Tensor
    weights: Tensor
    centres: Tensor
    near: Near | None
    orbitals: OnPoints

    @property
    def n_bytes(self) -> int:
        """Size of the matrices, of the orbitals on the points and of what is near nuclei, bytes."""
        return self.repulsion.nbytes + self.orbitals.n_bytes + (0 if self.near is None else self.near.n_bytes)

    def coulomb(self, density: Tensor) -> Tensor:
        """Coulomb matrix [n, n] of a density matrix."""
        packed = density.new_zeros(self.repulsion.shape[0]).index_add(0, self.pairs.flatten(), density.flatten())
        found: Tensor = (self.repulsion @ packed)[self.pairs]
        return found


class _Rows(torch.autograd.Function):
    """Density matrix to density on points."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, filled: Tensor | None, orbitals: OnPoints, n_rows: int) -> Tensor:
        ctx.orbitals = orbitals
        return orbitals.rows(matrix, n_rows, filled)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        return _Matrix.apply(slopes[0], ctx.orbitals), None, None, None


class _Matrix(torch.autograd.Function):
    """Derivatives on points to the matrix of the potential."""

    @staticmethod
    def forward(ctx: Any, slopes: Tensor, orbitals: OnPoints) -> Tensor:
        ctx.orbitals, ctx.n_rows = orbitals, slopes.shape[0]
        return orbitals.matrix(slopes)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        symmetric = 0.5 * (slopes[0] + slopes[0].t())
        return _Rows.apply(symmetric, None, ctx.orbitals, ctx.n_rows), None


class Field(NamedTuple):
    """Energy and Fock matrix of a density matrix.

    Attributes:
        energy: Total energy, Hartree.
        fock: Fock matrix [n, n].
        error: Commutator of both in the orthonormal basis [m, m], without derivatives.
    """

    energy: Tensor
    fock: Tensor
    error: Tensor


class Solved(NamedTuple):
    """A self-consistent field.

    Attributes:
        energy: Total energy, Hartree.
        density: Density matrix [n, n].
        cycles: Number of cycles.
        converged: Whether it is self-consistent.
    """

    energy: float
    density: Tensor
    cycles: int
    converged: bool


class _Fields:
    """Fields of one molecule with the present weights of a functional."""

    def __init__(self, network: FunctionalNetwork, molecule: Molecule, *, record: bool, diis: bool = True) -> None:
        self.network, self.molecule, self.record, self.diis = network, molecule, record, diis
        self._history: list[tuple[Tensor, Tensor]] | None = None  # None before the first, which is too far from the others
        self._share: Tensor | None = None
        if molecule.near is not None:
            with torch.set_grad_enabled(record):
                self._share = network.shares(molecule.near, molecule.weights.shape[0])

    def field(self, density: Tensor, filled: Tensor | None) -> Field:
        """Return energy and Fock matrix of a density matrix."""
        molecule = self.molecule
        with torch.enable_grad():
            rows: Tensor = _Rows.apply(density, filled, molecule.orbitals, self.network.rows)
            if not (self.record and rows.requires_grad):
                rows = rows.detach().requires_grad_()
            grid = DensityGrid(molecule.positions, molecule.weights, rows)
            exchange = self.network(grid, molecule.centres, near=molecule.near, share=self._share).sum()
            (slopes,) = torch.autograd.grad(exchange, rows, create_graph=self.record)
        with torch.set_grad_enabled(self.record):
            coulomb = molecule.coulomb(density)
            energy = (density * (molecule.core + 0.5 * coulomb)).sum() + exchange + molecule.rest
            fock = molecule.core + coulomb + _Matrix.apply(slopes, molecule.orbitals)
        with torch.no_grad():
            half = molecule.basis.t() @ fock @ density @ molecule.overlap @ molecule.basis
        return Field(energy, fock, half - half.t())

    def next(self, field: Field) -> tuple[Tensor, Tensor]:
        """Return the next density matrix and its occupied orbitals."""
        with torch.set_grad_enabled(self.record):
            return occupied_density(self._combined(field), self.molecule.basis, self.molecule.n_occupied)

    def _combined(self, field: Field) -> Tensor:
        """Combine Fock matrices by DIIS; its coefficients count as constants."""
        if not self.diis or self._history is None or float(field.error.abs().max()) < FLAT:
            self._history = self._history or []
            return field.fock
        self._history = [*self._history, (field.fock, field.error)][-SPACE:]
        errors = torch.stack([error.flatten() for _, error in self._history])
        sizes = errors.norm(dim=1)
        shares, n = sizes.min() / sizes, len(self._history)  # errors of different size are combined as unit vectors
        units = errors / sizes.unsqueeze(1)
        bordered = units.new_zeros(n + 1, n + 1)
        bordered[:n, :n], bordered[n, :n], bordered[:n, n] = units @ units.t(), shares, shares
        right = units.new_zeros(n + 1)
        right[n] = 1.0
        coefficients = shares * (torch.linalg.pinv(bordered, rtol=_CUT, hermitian=True) @ right)[:n]
        return torch.stack([fock for fock, _ in self._history]).mul(coefficients[:, None, None]).sum(dim=0)


def unrolled_energies(
    network: FunctionalNetwork, molecule: Molecule, start: Tensor, cycles: int, *, diis: bool = True
) -> Tensor:
    """Compute the energies of some cycles of a self-consistent field, with derivatives by the weights of the functional.

    Args:
        network: Functional.
        molecule: Molecule.
        start: Density matrix [n, n] to begin with, which counts as a constant.
        cycles: Number of cycles.
        diis: Whether Fock matrices are combined by DIIS; its coefficients count as constants, which matters for derivatives
            only as far as the field is not self-consistent.

    Returns:
        Energies [cycles], Hartree: of the start, and of the density after each cycle but the last one. They have derivatives
        where torch records them.
    """
    record = torch.is_grad_enabled()
    fields = _Fields(network, molecule, record=record, diis=diis)
    density, filled, found = start, None, []
    for cycle in range(cycles):
        field = fields.field(density, filled)
        found.append(field.energy)
        if cycle + 1 < cycles:
            density, filled = fields.next(field)
    return torch.stack(found)


def solve_field(
    network: FunctionalNetwork, molecule: Molecule, start: Tensor, *, conv_tol: float = 1e-9, max_cycle: int = 50
) -> Solved:
    """Solve a self-consistent field, without derivatives.

    Args:
        network: Functional.
        molecule: Molecule.
        start: Density matrix [n, n] to begin with.
        conv_tol: Change of energy between cycles at convergence, Hartree; the commutator must be below its root.
        max_cycle: Largest number of cycles.
    """
    with torch.no_grad():
        fields = _Fields(network, molecule, record=False)
        density, before = start, float("inf")
        field = fields.field(start, None)
        for cycle in range(1, max_cycle + 1):
            density, filled = fields.next(field)
            field = fields.field(density, filled)
            energy = float(field.energy)
            if abs(energy - before) < conv_tol and float(field.error.abs().max()) < conv_tol**0.5:
                return Solved(energy, density, cycle, True)
            before = energy
    return Solved(before, density, max_cycle, False)
