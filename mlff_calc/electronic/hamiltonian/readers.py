"""Features from the blocks of given matrices, such as overlaps: the maps of `blocks.py` in reverse."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlff_calc.electronic.hamiltonian.blocks import PairBlocks, irreducible_parts


class PairReader(nn.Module):
    """Features of pairs from blocks of pairs, in their frames.

    Args:
        blocks: The map of features to blocks, whose constants are used.
        hidden: Width of the features.
        matrices: Number of matrices that are read.
    """

    def __init__(self, blocks: PairBlocks, hidden: int, matrices: int) -> None:
        super().__init__()
        counts = [matrices * weight.shape[1] for weight in blocks.weights]
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(n, hidden) / max(n, 1) ** 0.5) for n in counts)
        self.sizes = [weight.shape[1] for weight in list(blocks.weights)[:2]]
        self.sizes += [weight.shape[1] for weight in list(blocks.weights)[2:] for _ in range(2)]

    def forward(self, given: Tensor, turn: Tensor, fill: Tensor) -> Tensor:
        """Read blocks.

        Args:
            given: Blocks [matrices, n_pairs, width, width].
            turn: Maps of orbitals to the frames of the pairs [n_pairs, width, width].
            fill: Entries of the numbers of a block, see `PairBlocks`.

        Returns:
            A stack [2 (l_max+1), n_pairs, hidden].
        """
        inside = turn @ given @ turn.transpose(1, 2)
        numbers = (inside.flatten(2) @ fill.to(given.dtype).t()).split(self.sizes, dim=2)
        rows = []
        for row, part in enumerate(numbers):
            weight = self.weights[row if row < 2 else row // 2 + 1]
            rows.append(part.transpose(0, 1).flatten(1) @ weight)
        return torch.stack(rows)


class AtomReader(nn.Module):
    """Features of atoms from blocks of atoms.

    Args:
        shells: Degrees of the shells of a block.
        l_max: Highest degree of the features.
        channels: Channels of each parity.
        matrices: Number of matrices that are read.
    """

    fill: Tensor

    def __init__(self, shells: Sequence[int], l_max: int, channels: int, matrices: int) -> None:
        super().__init__()
        self.channels = channels
        parts = irreducible_parts(shells, l_max)
        self.kinds = [(degree, odd) for odd in (0, 1) for degree in range(l_max + 1)]
        self.counts = counts = [len(parts[kind]) for kind in self.kinds]
        self.sizes = [(2 * degree + 1) * n for (degree, _), n in zip(self.kinds, counts, strict=True)]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(matrices * n, channels) / max(matrices * n, 1) ** 0.5) for n in counts
        )
        fill = [torch.stack(parts[kind], dim=1).flatten(0, 1) for kind in self.kinds if parts[kind]]
        self.register_buffer("fill", torch.cat(fill), persistent=False)

    def forward(self, given: Tensor) -> Tensor:
        """Read blocks [matrices, n_atoms, width, width] to features [n_atoms, 2, (l_max+1)^2, channels]."""
        n_atoms = given.shape[1]
        numbers = (given.flatten(2) @ self.fill.to(given.dtype).t()).split(self.sizes, dim=2)
        rows = []
        for (degree, _), weight, part, count in zip(self.kinds, self.weights, numbers, self.counts, strict=True):
            components = part.reshape(len(given), n_atoms, 2 * degree + 1, count).permute(1, 2, 0, 3).flatten(2)
            rows.append(components @ weight)
        return torch.cat(rows, dim=1).view(n_atoms, 2, -1, self.channels)
