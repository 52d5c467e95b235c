"""Atoms sorted by element, and pairs by both elements, so that rows of a kind are multiplied by one matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.electronic.orbitals.rearrange import inverse


class RowGroups:
    """Rows (atoms or pairs) grouped by kind, with the places of their components.

    Args:
        kind: Kind of each row [n], int64.

    Attributes:
        order: Row at each place of the sorted rows [n].
        back: Place of each row [n].
        kinds: Kinds that occur [n_groups], rising.
        counts: Number of rows of each.
    """

    def __init__(self, kind: Tensor) -> None:
        self.order = torch.argsort(kind, stable=True)
        self.back = inverse(self.order, len(kind))
        self.kinds, counts = torch.unique(kind, return_counts=True)
        self.counts: list[int] = counts.tolist()
        self._components: dict[tuple[int, tuple[int, ...]], tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.order)

    def components(self, l_max: int, degrees: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Places of components of features [n, (l_max+1)^2], sorted by degree, then kind, row and order m.

        Args:
            l_max: Highest degree of the features.
            degrees: Degrees wanted, rising.

        Returns:
            Arguments `index` and `back` of `rearrange` for features as rows [n * (l_max+1)^2, channels].
        """
        key = (l_max, degrees)
        if key not in self._components:
            width = (l_max + 1) ** 2
            device = self.order.device
            parts = [
                (self.order.unsqueeze(1) * width + torch.arange(d * d, (d + 1) * (d + 1), device=device)).flatten()
                for d in degrees
            ]
            index = torch.cat([self.order[:0], *parts])
            self._components[key] = index, inverse(index, len(self) * width)
        return self._components[key]
