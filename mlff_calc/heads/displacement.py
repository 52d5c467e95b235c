"""Displacement: predicts positions after a time from features and velocities.

    x_i(t) - x_i = s v_i t + u_i + S (phi_v(h_i) v_i t / D + y_i),      v_i(t) - v_i = S_v (phi_w(h_i) v_i t / D + z_i)

y and z are vectors read from the features, and u is the displacement by the backbone, if it moves atoms. s v_i t, the
multiple of the constant-velocity step that fits the training data best, is included from the start: the network learns
the rest.

| symbol | name in code | unit |
|---|---|---|
| v t | `drift` | length |
| s | `drift_share` | |
| S | `length_scale` | length |
| D | `drift_scale` | length |
| S_v | `speed_scale` | length/time |

Source: Satorras et al., "E(n) equivariant graph neural networks" (2021), Eq. 7, whose update of velocities is phi_v v.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from mlff_calc.graph.keys import DOUBLE, declare
from mlff_calc.heads.base import Features, Head, register_head, vectors_of
from mlff_calc.nn.dense import dense
from mlff_calc.nn.vectors import SMALL

VELOCITIES: Final = declare("velocities", "atom", (3,), DOUBLE, "length/time", "velocities, in the units of the data")
HORIZON: Final = declare("horizon", "system", (), DOUBLE, "time", "time to predict ahead, in the unit of velocities")
DISPLACEMENTS: Final = declare("displacements", "atom", (3,), DOUBLE, "length", "displacements of atoms")
VELOCITY_CHANGES: Final = declare(
    "velocity_changes", "atom", (3,), DOUBLE, "length/time", "final velocities minus initial ones"
)


@register_head("displacement")
class DisplacementHead(Head):
    """Adds `displacements` [n_atoms, 3] and, with `velocities`, `velocity_changes` [n_atoms, 3] (both float64).

    Args:
        features: Features of the network.
        length_scale, drift_scale, speed_scale, drift_share: Constants S, D, S_v and s of the module's table.
        velocities: Whether velocities are predicted too.
    """

    scales: Tensor
    provides = (DISPLACEMENTS, VELOCITY_CHANGES)
    needs = (VELOCITIES, HORIZON)

    def __init__(
        self,
        features: Features,
        length_scale: float = 1.0,
        drift_scale: float = 1.0,
        speed_scale: float = 1.0,
        drift_share: float = 1.0,
        velocities: bool = False,
    ) -> None:
        super().__init__()
        self.degree, channels = min(features.l_max, 1), features.channels
        self.velocities = velocities
        n_vectors = 2 if velocities else 1
        self.vectors = vectors_of(features, n_vectors)
        last = dense(channels, n_vectors)
        last.weight.data *= SMALL
        self.gate = nn.Sequential(dense(channels, channels), nn.SiLU(), last)
        scales = torch.tensor([length_scale, drift_scale, speed_scale, drift_share], dtype=torch.float64)
        self.register_buffer("scales", scales)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with the outputs; it must hold `node_features`, `velocities` and `horizon`."""
        features = graph["node_features"].to(self.vectors.first.weight.dtype)
        drift = graph["velocities"].double() * graph["horizon"].index_select(0, graph["system_index"]).unsqueeze(1)
        along = self.gate(features[:, 0]).double().unsqueeze(2) * (drift / self.scales[1]).unsqueeze(1)
        beside = self.vectors(features, graph["edge_index"], graph["edge_vec"]).double()
        out = dict(graph)
        displacements = self.scales[3] * drift + self.scales[0] * (along[:, 0] + beside[:, 0])
        if "moved" in graph:
            displacements = displacements + graph["moved"].double()
        out["displacements"] = displacements
        if self.velocities:
            out["velocity_changes"] = self.scales[2] * (along[:, 1] + beside[:, 1])
        return out
