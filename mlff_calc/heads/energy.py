"""Energy head: the energy of each atom from its scalars, with reference energies and a scale.

    E_i = scale * mlp(h_i) + E_ref[species_i]

The network gives numbers of order one; `scale` (eV) and the reference energies (eV) are fixed before training and kept
in float64, because total energies are thousands of times larger than what is learned.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn


class EnergyHead(nn.Module):
    """Adds `energies` [n_atoms] (eV, float64) to the graph.

    Args:
        channels: scalars per atom. reference_energies: eV, one per species. scale: eV.
    """

    provides: ClassVar[dict[str, str]] = {"energy": "eV", "energies": "eV"}

    def __init__(self, channels: int, reference_energies: list[float], scale: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)
        self.last = nn.Linear(channels, 1)
        self.register_buffer("reference_energies", torch.tensor(reference_energies, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with `energies`."""
        scalars = graph["node_features"][:, 0].to(self.hidden.weight.dtype)
        learned = self.last(nn.functional.silu(self.hidden(scalars))).squeeze(-1).double()
        out = dict(graph)
        out["energies"] = learned * self.scale + self.reference_energies.index_select(0, graph["species"])
        return out
