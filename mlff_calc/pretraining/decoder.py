"""The decoder of a reconstruction: finds strong noise from noisy features of atoms and the code of the structure.

Features are scalars h and vectors v of the noisy copy, g is the code of the copy without noise. Conditioning is one of

    fusion         h' = h + MLP([h, g]),  v' = 2 sigmoid(MLP([h, g])) v                       once, before all layers
    adaptive_norm  h' = (1 + a) norm(h) + b,  v' = (1 + c) norm(v),  with a, b, c and a gate of the layer's result by
                   MLP([g, h]), which sends no gradient to h                                   before every layer

g is a vector of scalars, so that it may change scalars, and vectors only by factors. Each layer is one layer of `hegnn`
(with degree 1) on the edges of the noisy copy, which starts from these features, and adds its result to them.

Source: Yan, Li, Zhang, "GeoRecon" (2025), arXiv 2506.13174, for the idea; Perez et al., "Self-conditioned denoising", for
the adaptive norm. Details that the paper does not tell are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.backbones import Hegnn
from mlff_calc.graph.keys import Graph
from mlff_calc.heads import DenoisingHead, Features
from mlff_calc.nn.degree import DegreeNorm
from mlff_calc.nn.dense import dense

CONDITIONINGS = ("fusion", "adaptive_norm")
COPIES = 8
"""Number of vectors that a layer sends between atoms. Raising it makes layers wider and slower."""


class Fusion(nn.Module):
    """Adds the code to scalars, and gates vectors by it.

    Args:
        channels: Number of channels of the features.
        width: Number of entries of the code.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.mlp = nn.Sequential(dense(channels + width, channels), nn.SiLU(), dense(channels, 2 * channels))

    def forward(self, features: Tensor, code: Tensor) -> tuple[Tensor, Tensor | None]:
        """Condition features [n_atoms, 4, channels] on codes of their systems [n_atoms, width]."""
        scalars = features[:, 0]
        change, gate = self.mlp(torch.cat([scalars, code], dim=1)).split(self.channels, dim=1)
        vectors = features[:, 1:] * (2.0 * torch.sigmoid(gate)).unsqueeze(1)
        return torch.cat([(scalars + change).unsqueeze(1), vectors], dim=1), None


class AdaptiveNorm(nn.Module):
    """Normalizes features, with scales and shifts by the code; arguments as for `Fusion`."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.norm = DegreeNorm(1, channels)
        last = dense(channels, 5 * channels)
        last.weight.data *= 0.1
        self.mlp = nn.Sequential(dense(channels + width, channels), nn.SiLU(), last)

    def forward(self, features: Tensor, code: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return conditioned features, and factors of what the layer adds to scalars and vectors [n_atoms, 4, channels]."""
        known = self.mlp(torch.cat([features[:, 0].detach(), code], dim=1))
        shift, scale, wider, gate, other = known.split(self.channels, dim=1)
        normal = self.norm(features)
        scalars = (normal[:, 0] * (1.0 + scale) + shift).unsqueeze(1)
        vectors = normal[:, 1:] * (1.0 + wider).unsqueeze(1)
        gates = 1.0 + torch.stack([gate, other, other, other], dim=1)
        return torch.cat([scalars, vectors], dim=1), gates


class Decoder(nn.Module):
    """Noise of atoms from noisy features and codes.

    Args:
        features: Properties of the encoder.
        width: Number of entries of the code.
        n_layers: Number of layers.
        conditioning: `fusion` or `adaptive_norm`.
    """

    def __init__(self, features: Features, width: int, n_layers: int, conditioning: str) -> None:
        super().__init__()
        channels = features.channels
        kind = Fusion if conditioning == "fusion" else AdaptiveNorm
        times = 1 if conditioning == "fusion" else n_layers
        self.conditions = nn.ModuleList([kind(channels, width) for _ in range(times)])
        layers = [
            Hegnn(
                len(features.species), features.cutoff, l_max=1, channels=channels, n_layers=1,
                steerable_channels=min(COPIES, channels), avg_num_neighbors=features.avg_num_neighbors,
            )
            for _ in range(n_layers)
        ]  # fmt: skip
        self.layers = nn.ModuleList(layers)
        own = Features(1, channels, features.cutoff, features.avg_num_neighbors, features.species)
        self.head = DenoisingHead(own)

    def forward(self, features: Tensor, code: Tensor, graph: Graph) -> Tensor:
        """Find the noise [n_atoms, 3] of a noisy copy, in units of its standard deviation.

        Args:
            features: Features of the noisy copy [n_atoms, n, channels], scalars and vectors first.
            code: Codes of its systems [n_systems, width].
            graph: The noisy copy, with `species`. Only its edges are used.
        """
        found = nn.functional.pad(features[:, :4], [0, 0, 0, max(0, 4 - features.shape[1])]).to(code.dtype)
        own = code.index_select(0, graph["system_index"])
        for k, layer in enumerate(self.layers):
            start, gate = found, None
            if k < len(self.conditions):
                start, gate = self.conditions[k](found, own)
            if gate is None:
                found = start
            added = layer(graph | {"input_features": start})["node_features"]
            found = found + (added if gate is None else gate * added)
        noise: Tensor = self.head(graph | {"node_features": found})["noise"]
        return noise
