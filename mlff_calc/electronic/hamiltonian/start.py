"""First features of atoms and pairs, from elements and distances.

While atoms have only scalars, nothing in the frame of a pair depends on an angle, and a full layer would multiply
zeros. A network of scalars gives the real part of order 0 of pairs, and messages along spherical harmonics.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.electronic.hamiltonian.block import PairGeometry
from mlff_calc.electronic.hamiltonian.frames import end_signs
from mlff_calc.nn.degree import degree_index
from mlff_calc.nn.scatter import scatter_sum


class FirstFeatures(nn.Module):
    """First features.

    Args:
        l_max: Highest degree.
        channels: Channels of features of atoms, for each parity.
        hidden: Width of features of pairs.
        n_scalars: Number of scalars of a pair.
    """

    degrees: Tensor
    signs: Tensor

    def __init__(self, l_max: int, channels: int, hidden: int, n_scalars: int) -> None:
        super().__init__()
        self.l_max, self.channels = l_max, channels
        self.mix = nn.Linear(n_scalars + 2 * channels, hidden)
        self.to_pairs = nn.Linear(hidden, hidden)
        self.message = nn.Linear(hidden, (l_max + 1) * channels)
        self.register_buffer("signs", end_signs(l_max)[0, :, 0], persistent=False)
        self.register_buffer("degrees", torch.tensor(degree_index(l_max)), persistent=False)

    def forward(self, scalars: Tensor, geometry: PairGeometry) -> tuple[Tensor, Tensor]:
        """Compute features of atoms [n_atoms, 2, (l_max+1)^2, channels] and pairs [2 (l_max+1), n_pairs, hidden].

        Args:
            scalars: Scalars of atoms [n_atoms, channels].
            geometry: Geometry of the pairs.
        """
        index, turns, of_pairs, weights = geometry
        n_pairs = len(of_pairs)
        ends = [scalars.index_select(0, one) for one in index]
        mixed = nn.functional.silu(self.mix(torch.cat([of_pairs, *ends], dim=1)))
        pairs = self.of_pairs(self.to_pairs(mixed))
        forth = self.harmonics(turns)
        harmonics = torch.cat([forth, forth * self.signs.to(forth.dtype)]) * weights.unsqueeze(1)
        message = self.message(mixed).view(n_pairs, self.l_max + 1, self.channels).index_select(1, self.degrees)
        true = scatter_sum(harmonics.unsqueeze(2) * message, index[0], len(scalars))
        n_rest = true.shape[1] - 1
        true = true + nn.functional.pad(scalars.unsqueeze(1), [0, 0, 0, n_rest])
        return torch.stack([true, torch.zeros_like(true)], dim=1), pairs

    def of_pairs(self, scalars: Tensor) -> Tensor:
        """Features of pairs whose only components are scalars [n_pairs, hidden]."""
        return nn.functional.pad(scalars.unsqueeze(0), [0, 0, 0, 0, 0, 2 * self.l_max + 1])

    def harmonics(self, turns: Tensor) -> Tensor:
        """Spherical harmonics of the first half of the pairs [n_pairs / 2, (l_max+1)^2], with norm 1 for each degree."""
        return turns[:, 0, : self.l_max + 1].sum(dim=1)  # the rows of order 0
