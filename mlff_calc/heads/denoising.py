"""Denoising: the noise that was added to positions, read off the features of the noisy structure.

For positions x = x_0 + sigma n with n normal, the best prediction of n is -sigma times the gradient of the log-density of
the noisy structures at x: a force field up to a factor.

Source: Zaidi et al., "Pre-training via denoising for molecular property prediction" (2023), Eq. 3.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from mlff_calc.nn.vectors import VectorReadout


class DenoisingHead(nn.Module):
    """Adds `noise` [n_atoms, 3] (float64), in units of its standard deviation.

    Args:
        l_max: highest degree of the features. channels: per component. cutoff: of the graph.
        avg_num_neighbors: mean number of neighbours.
    """

    provides: ClassVar[dict[str, str]] = {"noise": ""}

    def __init__(self, l_max: int, channels: int, cutoff: float, avg_num_neighbors: float = 10.0) -> None:
        super().__init__()
        self.vectors = VectorReadout(l_max, channels, 1, cutoff, avg_num_neighbors)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with `noise`; it holds `node_features`, `edge_index` and `edge_vec`."""
        features = graph["node_features"].to(self.vectors.first.weight.dtype)
        out = dict(graph)
        out["noise"] = self.vectors(features, graph["edge_index"], graph["edge_vec"])[:, 0].double()
        return out
