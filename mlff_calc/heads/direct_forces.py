"""Direct forces: the degree-1 features of an atom, mixed to one vector.

They are cheaper than a gradient but not conservative: suited to relaxations and pretraining, not to constant-energy
dynamics.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from mlff_calc.errors import OptionError
from mlff_calc.graph.keys import DOUBLE, declare
from mlff_calc.heads.base import Features, Head, register_head

FORCES: Final = declare("forces", "atom", (3,), DOUBLE, "eV/Angstrom", "force on each atom")


@register_head("direct_forces")
class DirectForcesHead(Head):
    """Adds `forces` [n_atoms, 3] (eV/Angstrom, float64) to the graph; needs features of degree 1.

    Args:
        features: Features of the network.
        scale: Scale of the forces, in eV/Angstrom.
    """

    provides = (FORCES,)

    degree = 1

    def __init__(self, features: Features, scale: float = 1.0) -> None:
        super().__init__()
        channels = features.channels
        self.mix = nn.Linear(channels, channels, bias=False)
        self.gate = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.last = nn.Parameter(torch.randn(channels) / math.sqrt(channels))
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with `forces`.

        Raises:
            OptionError: the features contain no vectors (see `Backbone.limit_outputs`).
        """
        features = graph["node_features"]
        if features.shape[1] < 4:
            raise OptionError(
                "features have no vectors: the backbone was told to leave them out; call limit_outputs(1)"
            )
        vectors = self.mix(features[:, 1:4]) * self.gate(features[:, 0]).unsqueeze(1)
        out = dict(graph)
        out["forces"] = (vectors @ self.last).double() * self.scale
        return out
