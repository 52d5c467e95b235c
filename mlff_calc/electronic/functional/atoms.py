"""Messages between atoms whose features come from the density, and invariants of features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.backbones import build_backbone
from mlff_calc.electronic.functional.near import pairs_within
from mlff_calc.nn.harmonics import degree_selector


class Messages(nn.Module):
    """The backbone `hegnn` on features of the density. All atoms are of one species, so that no element is told apart.

    Args:
        l_max: Highest degree of features.
        channels: Number of features per component.
        layers: Number of layers; 0 leaves features as they are.
        cutoff: Longest distance of messages, Bohr.
        avg_num_neighbors: Mean number of neighbours within the cutoff.
    """

    def __init__(self, l_max: int, channels: int, layers: int, cutoff: float, avg_num_neighbors: float) -> None:
        super().__init__()
        self.cutoff = float(cutoff)
        self.backbone: nn.Module | None = None
        if layers:
            options = {
                "name": "hegnn", "cutoff": cutoff, "l_max": l_max, "channels": channels, "n_layers": layers,
                "avg_num_neighbors": avg_num_neighbors, "steerable_channels": max(1, channels // 4),
            }  # fmt: skip
            self.backbone = build_backbone(options, n_species=1)

    def forward(self, features: Tensor, centres: Tensor, centre_system: Tensor | None) -> Tensor:
        """Return features [n_atoms, (l_max+1)^2, channels] that know their neighbourhood.

        Args:
            features: Features from the density [n_atoms, (l_max+1)^2, channels].
            centres: Positions of atoms [n_atoms, 3], Bohr.
            centre_system: Number of the molecule of each atom, rising; None for one molecule.
        """
        if self.backbone is None:
            return features
        first, second = pairs_within(self.cutoff, centres.detach(), centres.detach(), centre_system, centre_system)
        edges = torch.stack([first, second])[:, first != second]
        given = features[:, :4]
        graph = {
            "species": first.new_zeros(centres.shape[0]),
            "edge_index": edges,
            "edge_vec": centres.index_select(0, edges[1]) - centres.index_select(0, edges[0]),
            "input_features": nn.functional.pad(given, [0, 0, 0, 4 - given.shape[1]]),
        }
        return features + self.backbone(graph)["node_features"]


class Invariants(nn.Module):
    """Scalars of features, and sqrt(1 + |v|^2) - 1 of their higher degrees, which is smooth where symmetry makes v zero."""

    selector: Tensor

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.register_buffer("selector", degree_selector(l_max), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [n_atoms, (l_max+1)^2, channels] to [n_atoms, (l_max+1) * channels]."""
        rest = features[:, 1:]
        squares = torch.einsum("nmc,md->ndc", rest * rest, self.selector.to(rest.dtype))
        norms = torch.sqrt(squares + 1.0) - 1.0
        return torch.cat([features[:, :1], norms], dim=1).flatten(1)
