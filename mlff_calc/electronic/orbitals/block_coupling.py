"""Blocks of a matrix as steerable coefficients, and back: one constant orthogonal map.

    M[u m1, v m2] = sum_l sqrt(2l + 1) sum_m (l1 m1, l2 m2 | l m) c[l1 u, l2 v; l m]

for shells u of degree l1 and v of degree l2, with the coefficients of e3nn. A block of l1 and l2 has the parity
(-1)^(l1+l2). Coefficients of degree l are therefore true (parity (-1)^l) where l1 + l2 + l is even and pseudo where it is
odd. A path is one (l1 u, l2 v; l); all paths of a parity and a degree stand together as a `CoefficientPart`.

| name | shape |
|---|---|
| coefficients of a part | [n, 2l+1, n_paths] |
| blocks | [n, width, width], padded orbitals |

Each pair (l1, l2) takes one product for all blocks, shells and degrees; entries are sorted by two permutations.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mlff_calc.electronic.orbitals.rearrange import inverse, rearrange
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.nn.coupling import three_j


@dataclass(frozen=True)
class CoefficientPart:
    """All coefficients of one parity and degree.

    Attributes:
        pseudo: Whether the parity is -(-1)^l.
        degree: The degree l.
        paths: Shells (l1, u, l2, v) of each path.
    """

    pseudo: bool
    degree: int
    paths: tuple[tuple[int, int, int, int], ...]


class BlockCoupling(nn.Module):
    """The map between blocks and coefficients.

    Args:
        basis: Basis of the orbitals.
        l_max: Highest degree of coefficients; those beyond it are left out. Twice the highest degree of a shell is complete.
        pseudo: Whether to have pseudo coefficients; true ones alone are not complete.

    Attributes:
        parts: Kinds of coefficients, true ones first, by rising degree.
    """

    to_pairs: Tensor
    from_pairs: Tensor
    to_block: Tensor
    from_block: Tensor

    def __init__(self, basis: OrbitalBasis, l_max: int, pseudo: bool = True) -> None:
        super().__init__()
        self.width = basis.width
        self.counts = counts = basis.multiplicities
        pairs = list(itertools.product(range(len(counts)), repeat=2))
        self.parts = [
            part
            for odd in ([False, True] if pseudo else [False])
            for degree in range(min(l_max, 2 * basis.l_max) + 1)
            if (part := _part(counts, odd, degree)).paths
        ]
        starts: dict[tuple[bool, int, tuple[int, int, int, int]], tuple[int, int]] = {}
        total = 0
        for part in self.parts:
            for number, path in enumerate(part.paths):
                starts[part.pseudo, part.degree, path] = total + number, len(part.paths)
            total += (2 * part.degree + 1) * len(part.paths)

        sources: list[int] = []
        targets: list[int] = []
        self.columns: list[int] = []  # columns of the coefficients of each pair of degrees
        self.sizes: list[int] = []  # number of its coefficients for one pair of shells
        first_slot = np.cumsum([0, *(n * (2 * degree + 1) for degree, n in enumerate(counts))])
        for l1, l2 in pairs:
            degrees = [
                part.degree
                for part in sorted(self.parts, key=lambda part: part.degree)
                if abs(l1 - l2) <= part.degree <= l1 + l2 and part.pseudo == bool((l1 + l2 + part.degree) % 2)
            ]
            size = sum(2 * degree + 1 for degree in degrees)
            self.sizes.append(size)
            self.columns.append(size * counts[l1] * counts[l2])
            tables = [three_j(l1, l2, degree).flatten(0, 1) * math.sqrt(2 * degree + 1) for degree in degrees]
            table = torch.cat([torch.zeros((2 * l1 + 1) * (2 * l2 + 1), 0, dtype=torch.float64), *tables], dim=1).mT
            self.register_buffer(f"coupling_{l1}_{l2}", table.contiguous(), persistent=False)
            for u, v in itertools.product(range(counts[l1]), range(counts[l2])):
                for degree in degrees:
                    start, step = starts[bool((l1 + l2 + degree) % 2), degree, (l1, u, l2, v)]
                    sources += [start + m * step for m in range(2 * degree + 1)]
                row = int(first_slot[l1]) + u * (2 * l1 + 1)
                column = int(first_slot[l2]) + v * (2 * l2 + 1)
                places = itertools.product(range(row, row + 2 * l1 + 1), range(column, column + 2 * l2 + 1))
                targets += [place * self.width + other for place, other in places]
        self.pairs = pairs
        self.n_coefficients = total
        to_pairs, from_block = torch.tensor(sources), torch.tensor(targets)
        self.register_buffer("to_pairs", to_pairs, persistent=False)
        self.register_buffer("from_pairs", inverse(to_pairs, total), persistent=False)
        self.register_buffer("from_block", from_block, persistent=False)
        self.register_buffer("to_block", inverse(from_block, self.width**2), persistent=False)

    def coupling(self, l1: int, l2: int) -> Tensor:
        """The orthogonal table [n_coefficients of a pair of shells, (2 l1 + 1) (2 l2 + 1)]."""
        table: Tensor = getattr(self, f"coupling_{l1}_{l2}")
        return table

    def expand(self, coefficients: list[Tensor]) -> Tensor:
        """Blocks [n, width, width] of coefficients [n, 2l+1, n_paths] of all `parts`."""
        n = coefficients[0].shape[0]
        joined = torch.cat([each.flatten(1) for each in coefficients], dim=1)
        joined = rearrange(joined, self.to_pairs, self.from_pairs, dim=1)
        entries = []
        for (l1, l2), size, given in zip(self.pairs, self.sizes, joined.split(self.columns, dim=1), strict=True):
            table = self.coupling(l1, l2).to(given.dtype)
            rows = given.reshape(n * self._shells(l1, l2), size)
            entries.append((rows @ table).view(n, self._shells(l1, l2) * table.shape[1]))
        blocks = rearrange(torch.cat(entries, dim=1), self.to_block, self.from_block, dim=1)
        return blocks.view(n, self.width, self.width)

    def reduce(self, blocks: Tensor) -> list[Tensor]:
        """Coefficients [n, 2l+1, n_paths] of all `parts` of blocks [n, width, width]; the transpose of `expand`."""
        n = blocks.shape[0]
        entries = rearrange(blocks.flatten(1), self.from_block, self.to_block, dim=1)
        tables = [self.coupling(l1, l2).to(blocks.dtype) for l1, l2 in self.pairs]
        shells = [self._shells(l1, l2) for l1, l2 in self.pairs]
        given = entries.split([count * table.shape[1] for count, table in zip(shells, tables, strict=True)], dim=1)
        found = [
            (each.reshape(n * count, table.shape[1]) @ table.mT).view(n, count * table.shape[0])
            for each, count, table in zip(given, shells, tables, strict=True)
        ]
        joined = rearrange(torch.cat(found, dim=1), self.from_pairs, self.to_pairs, dim=1)
        shapes = [(2 * part.degree + 1, len(part.paths)) for part in self.parts]
        parts = joined.split([rows * paths for rows, paths in shapes], dim=1)
        return [part.view(n, *shape) for part, shape in zip(parts, shapes, strict=True)]

    def _shells(self, l1: int, l2: int) -> int:
        return self.counts[l1] * self.counts[l2]


def _part(counts: tuple[int, ...], pseudo: bool, degree: int) -> CoefficientPart:
    """All paths to a parity and a degree, for numbers of shells by degree."""
    paths = [
        (l1, u, l2, v)
        for l1, l2 in itertools.product(range(len(counts)), repeat=2)
        if abs(l1 - l2) <= degree <= l1 + l2 and pseudo == bool((l1 + l2 + degree) % 2)
        for u, v in itertools.product(range(counts[l1]), range(counts[l2]))
    ]
    return CoefficientPart(pseudo, degree, tuple(paths))
