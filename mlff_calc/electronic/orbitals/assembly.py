"""Blocks of symmetric matrices from equivariant features of atoms and pairs.

    c[l1 u, l2 v; l m] = C^(-1/2) sum_w W[l1 u, l2 v, l; w] x^l[m, w] + [l = 0] b[l1 u, l2 v]

are coefficients of a block (`block_coupling`), where W and b depend on the element of an atom or both elements of a pair.
Features x^l come in two parities: true (parity (-1)^l) and pseudo (parity -(-1)^l). A block of l1 and l2 has the parity
(-1)^(l1+l2) and takes those of its own. Matrices are symmetric by construction: (D + D^T) / 2 and (B_ij + B_ji^T) / 2.

Source: Yu et al., "QHNet" (2023), expansion module; parities and symmetry are our own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlff_calc.electronic.orbitals.block_coupling import BlockCoupling
from mlff_calc.electronic.orbitals.element_weights import ElementWeights, grouped_product
from mlff_calc.electronic.orbitals.groups import RowGroups
from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.orbitals.rearrange import rearrange
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import OptionError


def path_mask(basis: OrbitalBasis, coupling: BlockCoupling, n_atoms: int) -> Tensor:
    """Which paths of all parts have shells of the elements [n_kinds, n_paths], for rows of one or two atoms."""
    counts = torch.tensor([[degrees.count(l) for l in range(basis.l_max + 1)] for _, degrees in basis.shells])  # noqa: E741
    paths = torch.tensor([path for part in coupling.parts for path in part.paths])
    left = counts[:, paths[:, 0]] > paths[:, 1]
    right = counts[:, paths[:, 2]] > paths[:, 3]
    if n_atoms == 1:
        return left & right
    return (left.unsqueeze(1) & right.unsqueeze(0)).flatten(0, 1)


def check_basis(layout: MatrixLayout, basis: OrbitalBasis) -> None:
    """Raise an OptionError unless the layout has this basis."""
    if layout.basis != basis:
        raise OptionError(
            f"the layout has basis {layout.basis.name} and the module {basis.name}, or other shells under one name; "
            "make the layout with the basis of the module"
        )


class ElementBlocks(nn.Module):
    """Blocks of atoms, or of pairs, from their features; not yet symmetric.

    Args:
        basis: Basis of the orbitals.
        l_max: Highest degree of the features.
        channels: Channels of the features.
        n_atoms: Number of atoms of a row: 1 for atoms, 2 for pairs.
        pseudo: Whether there are pseudo features.
        bias: Whether blocks have a part that depends on elements alone.
    """

    mask: Tensor

    def __init__(
        self, basis: OrbitalBasis, l_max: int, channels: int, n_atoms: int, pseudo: bool = True, bias: bool = True
    ) -> None:
        super().__init__()
        self.l_max, self.channels, self.pseudo, self.bias = l_max, channels, pseudo, bias
        self.coupling = BlockCoupling(basis, l_max, pseudo)
        self.n_paths = [len(part.paths) for part in self.coupling.parts]
        n_weights = channels * sum(self.n_paths) + (self.n_paths[0] if bias else 0)
        self.weights = ElementWeights(len(basis.elements), n_atoms, n_weights)
        self.register_buffer("mask", path_mask(basis, self.coupling, n_atoms), persistent=False)

    def forward(self, groups: RowGroups, true: Tensor, pseudo: Tensor | None = None) -> Tensor:
        """Blocks [n, width, width] in the order of the rows; entries of orbitals that an element lacks are zero.

        Args:
            groups: The rows by kind.
            true: Features of parity (-1)^l [n, (l_max+1)^2, channels].
            pseudo: Features of parity -(-1)^l, of the same shape.

        Raises:
            OptionError: Features have other shapes, or pseudo features are missing or not expected.
        """
        inputs = self._checked(len(groups), true, pseudo)
        weights = self.weights(groups.kinds)
        total = sum(self.n_paths)
        mask = self.mask.index_select(0, groups.kinds).to(weights.dtype)
        matrices = weights[:, : self.channels * total].view(-1, self.channels, total) / math.sqrt(self.channels)
        matrices = matrices * mask.unsqueeze(1)
        shift = weights[:, self.channels * total :] * mask[:, : self.n_paths[0]] if self.bias else None
        columns = matrices.split(self.n_paths, dim=2)
        coefficients: list[Tensor] = []
        for features, is_pseudo in inputs:
            degrees = tuple(part.degree for part in self.coupling.parts if part.pseudo == is_pseudo)
            index, back = groups.components(self.l_max, degrees)
            rows = rearrange(features.reshape(-1, self.channels), index, back, partial=len(degrees) <= self.l_max)
            sizes = [len(groups) * (2 * degree + 1) for degree in degrees]
            for degree, part in zip(degrees, rows.split(sizes), strict=True):
                counts = [count * (2 * degree + 1) for count in groups.counts]
                first = shift if not coefficients else None
                product = grouped_product(part, columns[len(coefficients)], counts, first)
                coefficients.append(product.view(len(groups), 2 * degree + 1, product.shape[1]))
        blocks = self.coupling.expand(coefficients)
        return rearrange(blocks, groups.back, groups.order)

    def _checked(self, n: int, true: Tensor, pseudo: Tensor | None) -> list[tuple[Tensor, bool]]:
        """The features that are used, each with whether it is the pseudo one."""
        if self.pseudo != (pseudo is not None):
            raise OptionError(
                "pseudo features are missing; give them, or make the module with pseudo=False"
                if self.pseudo
                else "pseudo features were given to a module made with pseudo=False; leave them out"
            )
        given = [(true, False)] if pseudo is None else [(true, False), (pseudo, True)]
        shape = (n, (self.l_max + 1) ** 2, self.channels)
        for features, _ in given:
            if tuple(features.shape) != shape:
                raise OptionError(f"features have shape {tuple(features.shape)}; the layout and the module need {shape}")
        return given


class BlockAssembly(nn.Module):
    """Symmetric blocks of all molecules of a batch from features of atoms and pairs.

    Degrees of features are those of e3nn in the axes (y, z, x), as for networks that see `edge_vec[:, [1, 2, 0]]`.

    Args:
        basis: Basis of the orbitals.
        l_max: Highest degree of the features; a block of l1 and l2 is complete if it reaches l1 + l2.
        channels: Channels of the features.
        pseudo: Whether there are pseudo features.
        bias: Whether blocks have a part that depends on elements alone. For pairs this part needs `fade`, or it does not
            vanish at the cutoff.
    """

    def __init__(self, basis: OrbitalBasis, l_max: int, channels: int, pseudo: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.basis = basis
        self.atoms = ElementBlocks(basis, l_max, channels, 1, pseudo, bias)
        self.pairs = ElementBlocks(basis, l_max, channels, 2, pseudo, bias)

    def forward(
        self,
        layout: MatrixLayout,
        node_true: Tensor,
        pair_true: Tensor,
        node_pseudo: Tensor | None = None,
        pair_pseudo: Tensor | None = None,
        fade: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Diagonal blocks [n_atoms, width, width] and blocks of pairs [n_pairs, width, width].

        Args:
            layout: Layout of the batch.
            node_true: Features of atoms of parity (-1)^l [n_atoms, (l_max+1)^2, channels].
            pair_true: Features of pairs (i, j) of parity (-1)^l [n_pairs, (l_max+1)^2, channels].
            node_pseudo: Features of atoms of parity -(-1)^l.
            pair_pseudo: Features of pairs of parity -(-1)^l.
            fade: Factor of each pair [n_pairs], the same in both directions.

        Raises:
            OptionError: The layout has another basis, or features have other shapes or parities.
        """
        check_basis(layout, self.basis)
        diagonal = self.atoms(layout.atom_groups, node_true, node_pseudo)
        pairs = self.pairs(layout.pair_groups, pair_true, pair_pseudo)
        return symmetric_blocks(layout, diagonal, pairs, fade)


def symmetric_blocks(
    layout: MatrixLayout, diagonal: Tensor, pairs: Tensor, fade: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Blocks of (M + M^T) / 2 from those of M; `fade` [n_pairs] multiplies blocks of pairs."""
    reverse = layout.pairs.reverse
    pairs = pairs + rearrange(pairs, reverse, reverse).mT
    factor = 0.5 if fade is None else (0.5 * fade).view(-1, 1, 1)
    return 0.5 * (diagonal + diagonal.mT), factor * pairs
