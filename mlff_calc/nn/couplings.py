"""Symmetric couplings of steerable fields of neighbouring atoms, with a norm that is bounded on every structure.

Every atom has some copies of fields of degrees 0 to L. With the invariants t_ij of the fields of j seen from i,

    t_ij^l = <y_j^l, Y^l(r_ji)>,      y_i . A_ij y_j = sum_lk M_ij^lk t_ji^l t_ij^k + sum_l d_ij^l <y_i^l, y_j^l>,

and coefficients M = M^T and d that are the same for (i, j) and (j, i), A is symmetric. Coefficients are functions of the
distance and of the scalars of both atoms. They are divided by a norm, so that no block is larger than one, and

    A = bound D^-1/2 (envelope * blocks) D^-1/2,      D_i = 1 + sum_j envelope(r_ij),

has a norm below `bound`: D^-1/2 W D^-1/2 is similar to D^-1 W, whose rows of envelopes sum to less than one.

| symbol | name in code | shape |
|---|---|---|
| y | `fields` | [n_atoms, (L+1)^2, copies], e3nn order |
| M / sqrt(D_i D_j), d / sqrt(D_i D_j) | `mixing`, `straight` | [n_edges, copies, n] |
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.nn.dense import dense
from mlff_calc.nn.edges import EdgeBasis
from mlff_calc.nn.exchange import exchange
from mlff_calc.nn.harmonics import SphericalHarmonics
from mlff_calc.nn.scatter import scatter_sum


class CoupledEdges(NamedTuple):
    """What products with A read of a structure.

    Attributes:
        edge_index: centre and neighbour of each edge [2, n_edges].
        harmonics: spherical harmonics of r_ij [n_edges, (L+1)^2 - 1].
        coefficients: M, row by row of its upper triangle, and d [n_edges, n_coefficients, copies].
        nodes: any tensor with a row for each own atom and ghost; None where there are no ghosts.
    """

    edge_index: Tensor
    harmonics: Tensor
    coefficients: Tensor
    nodes: Tensor | None


class Couplings(nn.Module):
    """The matrix A.

    Args:
        l_max: highest degree L of the fields.
        copies: number of copies of each degree.
        channels: number of scalars of an atom.
        cutoff: cutoff of the graph (Angstrom).
        bound: norm that A stays below.
        n_basis: number of radial functions.
        hidden: width of the perceptron that gives coefficients.
    """

    twice: Tensor

    def __init__(
        self, l_max: int, copies: int, channels: int, cutoff: float, bound: float, n_basis: int, hidden: int
    ) -> None:
        super().__init__()
        self.l_max, self.copies = l_max, copies
        self.size = bound / math.sqrt(2.0 if l_max > 0 else 1.0)
        self.pairs = [(row, column) for row in range(l_max + 1) for column in range(row, l_max + 1)]
        self.n_coefficients = len(self.pairs) + l_max
        self.geometry = EdgeBasis(cutoff, n_basis, 5)
        self.harmonics = SphericalHarmonics(l_max)
        self.radial = dense(n_basis, hidden)
        self.atoms = nn.Linear(channels, hidden, bias=False)
        self.atoms.weight.data *= channels**-0.5
        self.coefficients = dense(hidden, self.n_coefficients * copies)
        counted = [1.0 if row == column else 2.0 for row, column in self.pairs] + [1.0] * l_max
        self.register_buffer("twice", torch.tensor(counted).unsqueeze(-1), persistent=False)

    def prepare(self, scalars: Tensor, edge_index: Tensor, edge_vec: Tensor, nodes: Tensor | None) -> CoupledEdges:
        """Compute coefficients and directions of all edges once.

        Args:
            scalars: scalars of atoms [n_atoms, channels].
            edge_index: centre and neighbour of each edge [2, n_edges].
            edge_vec: vectors from centres to neighbours [n_edges, 3], Angstrom.
            nodes: any tensor with a row for each own atom and ghost, where there are ghosts.
        """
        rays = self.geometry(edge_vec.to(scalars.dtype))
        degrees = scatter_sum(rays.envelope, edge_index[0], scalars.shape[0]) + 1.0
        rows = torch.cat([self.atoms(scalars), torch.rsqrt(degrees).unsqueeze(-1)], dim=1)
        shared = exchange(rows, nodes)
        both = rows.index_select(0, edge_index[0]), shared.index_select(0, edge_index[1])
        hidden = nn.functional.silu(self.radial(rays.basis) + both[0][:, :-1] + both[1][:, :-1])
        found = self.coefficients(hidden).view(-1, self.n_coefficients, self.copies)
        norms = torch.rsqrt(1.0 + (found * found * self.twice.to(found.dtype)).sum(dim=1, keepdim=True))
        weights = self.size * rays.envelope * both[0][:, -1] * both[1][:, -1]
        return CoupledEdges(edge_index, self.harmonics(rays.directions), found * norms * weights.view(-1, 1, 1), nodes)

    def forward(self, fields: Tensor, edges: CoupledEdges) -> Tensor:
        """Return A y [n_atoms, (L+1)^2, copies] for `fields` y of the same shape."""
        centres, neighbors = edges.edge_index[0], edges.edge_index[1]
        other = exchange(fields, edges.nodes).index_select(0, neighbors)
        coefficients = edges.coefficients
        seen = [other[:, 0]]
        for degree in range(1, self.l_max + 1):
            here = slice(degree * degree, (degree + 1) * (degree + 1))
            ray = edges.harmonics[:, here.start - 1 : here.stop - 1].unsqueeze(-1)
            invariant = (other[:, here] * ray).sum(dim=1)
            seen.append(invariant if degree % 2 == 0 else -invariant)  # Y(r_ji) has the other sign for odd degrees
        mixed = [torch.zeros_like(seen[0]) for _ in seen]
        for number, (row, column) in enumerate(self.pairs):
            mixed[row] = mixed[row] + coefficients[:, number] * seen[column]
            if row != column:
                mixed[column] = mixed[column] + coefficients[:, number] * seen[row]
        parts = [mixed[0].unsqueeze(1)]
        for degree in range(1, self.l_max + 1):
            here = slice(degree * degree, (degree + 1) * (degree + 1))
            ray = edges.harmonics[:, here.start - 1 : here.stop - 1].unsqueeze(-1)
            straight = coefficients[:, len(self.pairs) + degree - 1].unsqueeze(1)
            parts.append(mixed[degree].unsqueeze(1) * ray + straight * other[:, here])
        return scatter_sum(torch.cat(parts, dim=1), centres, fields.shape[0])
