"""Means and scales of blocks by element and pair of shells, measured on data; no rotation changes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlff_calc.electronic.hamiltonian.blocks import starts_of

SMALLEST = 1e-3
"""Smallest scale, in units of the largest of the same matrix. Raising it lets small blocks count less."""


class BlockScales(nn.Module):
    """Means of blocks of atoms, and scales of blocks of atoms and pairs; 0 and 1 until they are measured.

    Args:
        n_elements: Number of elements.
        shells: Degrees of the shells of a padded block.
    """

    atom_means: Tensor
    atom_scales: Tensor
    pair_scales: Tensor

    def __init__(self, n_elements: int, shells: Sequence[int]) -> None:
        super().__init__()
        self.shells = list(shells)
        width = sum(2 * degree + 1 for degree in shells)
        self.register_buffer("atom_means", torch.zeros(n_elements, width, width, dtype=torch.float64))
        self.register_buffer("atom_scales", torch.ones(n_elements, width, width, dtype=torch.float64))
        self.register_buffer("pair_scales", torch.ones(n_elements, n_elements, width, width, dtype=torch.float64))

    def divide(self, atoms: Tensor, pairs: Tensor, species: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Return blocks of atoms less their means, and blocks of pairs, in units of the scales.

        Args:
            atoms: Blocks [n_atoms, width, width].
            pairs: Blocks [n_pairs, width, width].
            species: Number of the element of each atom.
            ends: Numbers of both elements of each pair [2, n_pairs].
        """
        means, scales, pair_scales = self._of(species, ends, atoms.dtype)
        return (atoms - means) / scales, pairs / pair_scales

    def multiply(self, atoms: Tensor, pairs: Tensor, species: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Reverse of `divide`, with the same arguments."""
        means, scales, pair_scales = self._of(species, ends, atoms.dtype)
        return atoms * scales + means, pairs * pair_scales

    def _of(self, species: Tensor, ends: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        means, scales = (one.index_select(0, species).to(dtype) for one in (self.atom_means, self.atom_scales))
        return means, scales, self.pair_scales[ends[0], ends[1]].to(dtype)

    def measure(self, atoms: Tensor, pairs: Tensor, species: Tensor, ends: Tensor) -> None:
        """Set means and scales from blocks of many structures; arguments are those of `divide`."""
        n_elements = len(self.atom_means)
        averages = shell_averages(self.shells)
        for element in range(n_elements):
            mine = atoms[species == element].double()
            if len(mine):
                self.atom_means[element] = invariant_part(mine.mean(dim=0), self.shells)
                self.atom_scales[element] = _scales(mine - self.atom_means[element], averages)
            for other in range(n_elements):
                both = pairs[(ends[0] == element) & (ends[1] == other)].double()
                if len(both):
                    self.pair_scales[element, other] = _scales(both, averages)
        two = self.pair_scales.square() + self.pair_scales.square().permute(1, 0, 3, 2)
        self.pair_scales.copy_((0.5 * two).sqrt())


def shell_averages(shells: Sequence[int]) -> Tensor:
    """Matrix [width, width] that replaces the entries of each shell by their mean."""
    return torch.block_diag(
        *[torch.full((2 * degree + 1,) * 2, 1.0 / (2 * degree + 1), dtype=torch.float64) for degree in shells]
    )


def invariant_part(block: Tensor, shells: Sequence[int]) -> Tensor:
    """Part of a block [width, width] that no rotation changes: multiples of 1 between shells of the same degree."""
    kept = torch.zeros_like(block)
    starts = starts_of(shells)
    for i, one in zip(starts, shells, strict=True):
        for j, two in zip(starts, shells, strict=True):
            if one == two:
                size = 2 * one + 1
                mean = block[i : i + size, j : j + size].diagonal().mean()
                kept[i : i + size, j : j + size] = mean * torch.eye(size, dtype=block.dtype)
    return kept


def _scales(blocks: Tensor, averages: Tensor) -> Tensor:
    """Root mean squares by pair of shells [width, width]; 1 where there is nothing."""
    square = averages @ blocks.square().mean(dim=0) @ averages
    largest = square.max()
    if largest == 0.0:
        return torch.ones_like(square)
    return torch.where(square > 0.0, square.clamp(min=largest * SMALLEST**2), 1.0).sqrt()
