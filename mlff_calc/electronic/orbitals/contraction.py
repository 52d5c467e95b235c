"""Equivariant features of atoms and pairs from the blocks of a matrix: the inverse road of `assembly`.

    x^l[m, w] = P^(-1/2) sum_(l1 u, l2 v) V[l1 u, l2 v, l; w] c[l1 u, l2 v; l m]

with the coefficients c of a block (`block_coupling`), their number P, and weights V that depend on the element of an atom or
both elements of a pair. Features are linear in the matrix. True ones have the parity (-1)^l, pseudo ones -(-1)^l.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlff_calc.electronic.orbitals.assembly import check_basis, path_mask
from mlff_calc.electronic.orbitals.block_coupling import BlockCoupling
from mlff_calc.electronic.orbitals.element_weights import ElementWeights, grouped_product
from mlff_calc.electronic.orbitals.groups import RowGroups
from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.orbitals.rearrange import rearrange
from mlff_calc.electronic.orbitals.shells import OrbitalBasis


class ElementContraction(nn.Module):
    """Features of atoms, or of pairs, from their blocks.

    Args:
        basis: Basis of the orbitals.
        l_max: Highest degree of the features; degrees that blocks do not have are zero.
        channels: Channels of the features.
        n_atoms: Number of atoms of a row: 1 for atoms, 2 for pairs.
        pseudo: Whether to make pseudo features.
    """

    mask: Tensor

    def __init__(self, basis: OrbitalBasis, l_max: int, channels: int, n_atoms: int, pseudo: bool = True) -> None:
        super().__init__()
        self.l_max, self.channels, self.pseudo = l_max, channels, pseudo
        self.coupling = BlockCoupling(basis, l_max, pseudo)
        self.n_paths = [len(part.paths) for part in self.coupling.parts]
        self.weights = ElementWeights(len(basis.elements), n_atoms, channels * sum(self.n_paths))
        self.register_buffer("mask", path_mask(basis, self.coupling, n_atoms), persistent=False)

    def forward(self, groups: RowGroups, blocks: Tensor) -> tuple[Tensor, Tensor | None]:
        """True and pseudo features, each [n, (l_max+1)^2, channels]; the second is None without pseudo features.

        Args:
            groups: The rows by kind.
            blocks: Blocks [n, width, width]; entries of orbitals that an element lacks are ignored.
        """
        n = len(groups)
        mask = self.mask.index_select(0, groups.kinds).to(blocks.dtype)
        weights = self.weights(groups.kinds).view(-1, sum(self.n_paths), self.channels) * mask.unsqueeze(2)
        matrices = weights.split(self.n_paths, dim=1)
        coefficients = self.coupling.reduce(rearrange(blocks, groups.order, groups.back))
        features: dict[bool, list[Tensor]] = {False: [], True: []}
        for part, matrix, given in zip(self.coupling.parts, matrices, coefficients, strict=True):
            counts = [count * (2 * part.degree + 1) for count in groups.counts]
            product = grouped_product(given.reshape(-1, len(part.paths)), matrix / math.sqrt(len(part.paths)), counts)
            features[part.pseudo].append(product)
        found = [self._sorted(groups, n, is_pseudo, features[is_pseudo]) for is_pseudo in features]
        return found[0], found[1] if self.pseudo else None

    def _sorted(self, groups: RowGroups, n: int, pseudo: bool, rows: list[Tensor]) -> Tensor:
        """Features [n, (l_max+1)^2, channels] from rows by degree, kind, row and order m."""
        degrees = tuple(part.degree for part in self.coupling.parts if part.pseudo == pseudo)
        index, back = groups.components(self.l_max, degrees)
        joined = torch.cat(rows) if rows else self.weights.output.weight.new_zeros(0, self.channels)
        features = rearrange(joined, back, index, gaps=len(degrees) <= self.l_max)
        return features.view(n, (self.l_max + 1) ** 2, self.channels)


class BlockContraction(nn.Module):
    """Features of atoms and pairs of a batch from blocks of a matrix; for the arguments see `ElementContraction`."""

    def __init__(self, basis: OrbitalBasis, l_max: int, channels: int, pseudo: bool = True) -> None:
        super().__init__()
        self.basis = basis
        self.atoms = ElementContraction(basis, l_max, channels, 1, pseudo)
        self.pairs = ElementContraction(basis, l_max, channels, 2, pseudo)

    def forward(
        self, layout: MatrixLayout, diagonal: Tensor, pairs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Features `node_true`, `pair_true`, `node_pseudo`, `pair_pseudo`, in the order that `BlockAssembly` takes them.

        Args:
            layout: Layout of the batch.
            diagonal: Diagonal blocks [n_atoms, width, width].
            pairs: Blocks of pairs [n_pairs, width, width].

        Raises:
            OptionError: The layout has another basis.
        """
        check_basis(layout, self.basis)
        node_true, node_pseudo = self.atoms(layout.atom_groups, diagonal)
        pair_true, pair_pseudo = self.pairs(layout.pair_groups, pairs)
        return node_true, pair_true, node_pseudo, pair_pseudo
