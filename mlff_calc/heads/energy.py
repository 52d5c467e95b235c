"""Energy head: the energy of each atom from its scalars, with reference energies and a scale.

    E_i = scale * mlp(h_i) + E_ref[species_i]

The network gives numbers of order one. `scale` (eV) and the reference energies (eV) are fixed before training and kept
in float64, because total energies are thousands of times larger than the learned part.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from mlff_calc.graph.keys import DOUBLE, declare
from mlff_calc.heads.base import Features, Head, register_head

ENERGIES: Final = declare("energies", "atom", (), DOUBLE, "eV", "energy of each atom")


@register_head("energy")
class EnergyHead(Head):
    """Adds `energies` [n_atoms] (eV, float64) to the graph.

    Args:
        features: Features of the network; missing reference energies count as 0.
        scale: Scale of the learned part, in eV.
    """

    provides = (ENERGIES,)

    def __init__(self, features: Features, scale: float = 1.0) -> None:
        super().__init__()
        channels, energies = features.channels, list(features.energies) or [0.0] * len(features.species)
        self.hidden = nn.Linear(channels, channels)
        self.last = nn.Linear(channels, 1)
        self.register_buffer("reference_energies", torch.tensor(energies, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with `energies`."""
        scalars = graph["node_features"][:, 0].to(self.hidden.weight.dtype)
        learned = self.last(nn.functional.silu(self.hidden(scalars))).squeeze(-1).double()
        out = dict(graph)
        out["energies"] = learned * self.scale + self.reference_energies.index_select(0, graph["species"])
        return out
