"""Matrices of weights that depend on the element of an atom or on both elements of a pair, by a small network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

EMBEDDING = 16
"""Number of channels of the embedding of an element; more tell elements apart more freely."""
HIDDEN = 32
"""Number of hidden channels of the network; more let weights depend more freely on elements, and make files larger."""


class ElementWeights(nn.Module):
    """Numbers for each kind of atom or pair: a linear map of hidden features of embedded elements.

    Numbers have variance 1 at the start. Half of it is common to all kinds.

    Args:
        n_elements: Number of elements.
        n_atoms: Number of atoms of a row: 1 for atoms, 2 for pairs.
        n_outputs: Number of weights.
    """

    def __init__(self, n_elements: int, n_atoms: int, n_outputs: int) -> None:
        super().__init__()
        self.n_elements, self.n_atoms = n_elements, n_atoms
        self.embedding = nn.Embedding(n_elements, EMBEDDING)
        self.hidden = nn.Linear(n_atoms * EMBEDDING, HIDDEN)
        self.output = nn.Linear(HIDDEN, n_outputs)
        with torch.no_grad():
            nn.init.normal_(self.hidden.weight, std=1.0 / math.sqrt(n_atoms * EMBEDDING))
            nn.init.normal_(self.output.weight, std=1.0 / math.sqrt(2 * 0.36 * HIDDEN))  # SiLU's mean square is 0.36
            nn.init.normal_(self.output.bias, std=math.sqrt(0.5))

    def forward(self, kinds: Tensor) -> Tensor:
        """Weights [n_kinds, n_outputs] of kinds [n_kinds]; kinds of pairs are `first * n_elements + second`."""
        elements = kinds.unsqueeze(1)
        if self.n_atoms == 2:
            elements = torch.stack([kinds // self.n_elements, kinds % self.n_elements], dim=1)
        embedded = self.embedding(elements).flatten(1)
        weights: Tensor = self.output(nn.functional.silu(self.hidden(embedded)))
        return weights


def grouped_product(rows: Tensor, weights: Tensor, counts: Sequence[int], bias: Tensor | None = None) -> Tensor:
    """Multiply rows of each group by the group's own matrix.

    Args:
        rows: Rows [n, k], sorted by group.
        weights: Matrices [n_groups, k, m].
        counts: Number of rows of each group; they sum to n.
        bias: Numbers to add to each row of a group [n_groups, m].

    Returns:
        Rows [n, m].
    """
    if not counts:
        return rows.new_zeros(0, weights.shape[-1])
    parts = zip(rows.split(list(counts)), weights.unbind(0), strict=True)
    if bias is None:
        return torch.cat([part @ weight for part, weight in parts])
    shifted = zip(bias.unbind(0), parts, strict=True)
    return torch.cat([torch.addmm(shift, part, weight) for shift, (part, weight) in shifted])
