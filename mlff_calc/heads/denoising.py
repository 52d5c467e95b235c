"""Denoising: predicts the noise added to positions from the features of the noisy structure.

For positions x = x_0 + sigma n with n normal, the best prediction of n is -sigma times the gradient of the log-density of
the noisy structures at x: a force field up to a factor.

Source: Zaidi et al., "Pre-training via denoising for molecular property prediction" (2023), Eq. 3.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from mlff_calc.graph.keys import DOUBLE, declare
from mlff_calc.heads.base import Features, Head, register_head, vectors_of

NOISE: Final = declare("noise", "atom", (3,), DOUBLE, "", "noise in positions, in units of its standard deviation")


@register_head("denoising")
class DenoisingHead(Head):
    """Adds `noise` [n_atoms, 3] (float64), in units of its standard deviation.

    Args:
        features: Features of the network.
    """

    provides = (NOISE,)

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.degree = min(features.l_max, 1)
        self.vectors = vectors_of(features, 1)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with `noise`; it must hold `node_features`, `edge_index` and `edge_vec`."""
        features = graph["node_features"].to(self.vectors.first.weight.dtype)
        out = dict(graph)
        out["noise"] = self.vectors(features, graph["edge_index"], graph["edge_vec"])[:, 0].double()
        return out
