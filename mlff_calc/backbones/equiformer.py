"""`equiformer`: an equivariant graph-attention transformer with SO(2) convolutions in edge frames.

Pre-norm blocks x <- x + attention(norm(x)), x <- x + feed_forward(norm(x)) act on features [n_atoms, (l_max+1)^2,
channels]. Everything that depends only on geometry (distances, radial basis, envelope, frames) is computed once per
graph by `EdgeGeometry` and shared by all blocks; a deep-equilibrium backbone shares it over its iterations as well.

Source: Liao et al., "EquiformerV2: improved equivariant transformer for scaling to higher-degree representations"
(2023). This version differs in the edge frames (nn/frames.py), in mirror symmetry (features of degree l have parity
(-1)^l, so the model is equivariant under O(3) and not only SO(3)), in the gate (exactly equivariant, without a grid)
and in the smooth attention (nn/attention.py).
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mlff_calc.backbones.base import Backbone, node_species, register_backbone
from mlff_calc.backbones.inputs import add_inputs, edge_inputs, input_features
from mlff_calc.errors import RecipeError
from mlff_calc.nn.attention import GraphAttention
from mlff_calc.nn.degree import DegreeNorm, FeedForward
from mlff_calc.nn.frames import EdgeFrames
from mlff_calc.nn.radial import BesselBasis, PolynomialEnvelope, RadialMLP
from mlff_calc.nn.scatter import scatter_sum


class Edges(NamedTuple):
    """Geometry of the edges, in the precision of the network.

    Attributes:
        scalars: edge scalars [n_edges, edge_channels].
        envelope: envelope [n_edges].
        wigner: Wigner matrices of the edge frames [n_edges, n_reduced, (l_max+1)^2].
    """

    scalars: Tensor
    envelope: Tensor
    wigner: Tensor


class EdgeGeometry(nn.Module):
    """Computes the edge tensors that every block reads from distances, directions and species.

    Attributes:
        double_geometry: whether distances, basis and frames are computed in float64 before casting (precision `mixed`).
    """

    def __init__(
        self,
        cutoff: float,
        n_basis: int,
        edge_channels: int,
        l_max: int,
        m_max: int,
        n_species: int,
        envelope_exponent: int,
    ) -> None:
        super().__init__()
        self.double_geometry = False
        self.basis = BesselBasis(cutoff, n_basis)
        self.envelope = PolynomialEnvelope(cutoff, envelope_exponent)
        self.frames = EdgeFrames(l_max, m_max)
        self.mlp = RadialMLP([n_basis, edge_channels])
        self.centre_embedding = nn.Embedding(n_species, edge_channels)
        self.neighbor_embedding = nn.Embedding(n_species, edge_channels)
        nn.init.normal_(self.centre_embedding.weight, std=0.5)
        nn.init.normal_(self.neighbor_embedding.weight, std=0.5)

    def forward(
        self,
        edge_vec: Tensor,
        edge_index: Tensor,
        species: Tensor,
        nodes: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> Edges:
        """Return the edge tensors for `edge_vec` [n_edges, 3] (Angstrom, float64), in the precision of the weights.

        `nodes` [n_nodes] are the species of all nodes where there are ghost atoms. `inputs` [n_edges, n_basis] are
        further inputs of edges, added to the radial basis.
        """
        dtype = self.centre_embedding.weight.dtype
        if not self.double_geometry:
            edge_vec = edge_vec.to(dtype)
        distances = torch.sqrt((edge_vec * edge_vec).sum(dim=1))
        envelope = self.envelope(distances)
        basis = (self.basis(distances) * envelope.unsqueeze(-1)).to(dtype)
        if inputs is not None:
            basis = basis + inputs
        wigner = self.frames(edge_vec / distances.unsqueeze(-1)).to(dtype)
        pair = self.centre_embedding(species).index_select(0, edge_index[0])
        neighbors = species if nodes is None else nodes
        pair = pair + self.neighbor_embedding(neighbors).index_select(0, edge_index[1])
        return Edges(nn.functional.silu(self.mlp(basis) + pair), envelope.to(dtype), wigner)


class AtomEmbedding(nn.Module):
    """First features: an embedding of the species, plus the neighbourhood projected onto spherical harmonics."""

    def __init__(self, l_max: int, channels: int, edge_channels: int, n_species: int, avg_num_neighbors: float) -> None:
        super().__init__()
        self.l_max = l_max
        self.channels = channels
        self.norm = avg_num_neighbors**-0.5
        self.species = nn.Embedding(n_species, channels)
        self.radial = RadialMLP([edge_channels, edge_channels, (l_max + 1) * channels])

    def forward(self, species: Tensor, edge_index: Tensor, edges: Edges, inputs: Tensor | None = None) -> Tensor:
        """Return features [n_atoms, (l_max+1)^2, channels] from `species` [n_atoms].

        `inputs` [n_atoms, 4, channels] are known scalars and vectors of atoms; vectors are ignored where `l_max` is 0.
        """
        weights = self.radial(edges.scalars).view(-1, self.l_max + 1, self.channels)
        weights = weights * (edges.envelope * self.norm).view(-1, 1, 1)
        harmonics = edges.wigner[:, : self.l_max + 1].transpose(1, 2)
        around = scatter_sum(torch.bmm(harmonics, weights), edge_index[0], species.shape[0])
        features = torch.cat([around[:, :1] + self.species(species).unsqueeze(1), around[:, 1:]], dim=1)
        return features if inputs is None else add_inputs(features, inputs)


class EquiformerBlock(nn.Module):
    """One pre-norm block: graph attention and a per-atom network, each added to its input.

    Attributes:
        ends: whether the block computes only scalars, because nothing after it reads more.
    """

    def __init__(
        self,
        l_max: int,
        m_max: int,
        channels: int,
        attention_channels: int,
        heads: int,
        ffn_channels: int,
        edge_channels: int,
    ) -> None:
        super().__init__()
        self.attention_norm = DegreeNorm(l_max, channels)
        self.attention = GraphAttention(l_max, m_max, channels, attention_channels, heads, edge_channels)
        self.ffn_norm = DegreeNorm(l_max, channels)
        self.ffn = FeedForward(l_max, channels, ffn_channels)
        self.ends = False

    def forward(self, features: Tensor, edge_index: Tensor, edges: Edges, nodes: Tensor | None = None) -> Tensor:
        """Map features [n_atoms, (l_max+1)^2, channels] to the same shape, or to scalars only where the block `ends`."""
        source = self.attention_norm(features)
        if self.ends:
            weights = self.attention.radial_weights_of_order_zero(edges.scalars)
            message = self.attention.scalars(source, edge_index, weights, edges.envelope, edges.wigner, nodes)
            scalars = features[:, :1] + message
            return scalars + self.ffn.scalars(self.ffn_norm.scalars(scalars))
        weights = self.attention.radial_weights(edges.scalars)
        message = self.attention(source, edge_index, weights, edges.envelope, edges.wigner, nodes)
        features = features + message
        return features + self.ffn(self.ffn_norm(features))


@register_backbone("equiformer")
class Equiformer(Backbone):
    """Equivariant graph-attention transformer.

    Args:
        n_species: number of elements of the potential.
        cutoff: radius of the graph [Angstrom].
        l_max: highest degree.
        m_max: highest order in edge frames; -1 is l_max.
        channels: number of channels per component.
        n_layers: number of blocks.
        heads: number of attention heads.
        attention_channels: channels of messages; 0 is `channels`.
        ffn_channels: hidden channels of the per-atom network; 0 is 2 * channels.
        n_basis: number of Bessel functions.
        edge_channels: width of edge scalars.
        envelope_exponent: exponent of the envelope; the higher it is, the nearer to the cutoff the envelope falls.
        avg_num_neighbors: mean number of neighbours in the training data.

    Raises:
        RecipeError: an option is out of range.
    """

    after_layers = ("norm",)

    def __init__(
        self,
        n_species: int,
        cutoff: float = 5.0,
        l_max: int = 2,
        m_max: int = -1,
        channels: int = 32,
        n_layers: int = 2,
        heads: int = 4,
        attention_channels: int = 0,
        ffn_channels: int = 0,
        n_basis: int = 8,
        edge_channels: int = 32,
        envelope_exponent: int = 5,
        avg_num_neighbors: float = 10.0,
    ) -> None:
        super().__init__()
        m_max = l_max if m_max < 0 else m_max
        attention_channels = attention_channels or channels
        ffn_channels = ffn_channels or 2 * channels
        check_sizes("equiformer", cutoff, l_max, m_max, channels, n_layers, heads, attention_channels)
        check_positive(
            "equiformer",
            n_basis=n_basis,
            edge_channels=edge_channels,
            ffn_channels=ffn_channels,
            envelope_exponent=envelope_exponent,
            avg_num_neighbors=avg_num_neighbors,
        )
        self.cutoff = float(cutoff)
        self.l_max = l_max
        self.channels = channels
        self.n_layers, self.first_hops = n_layers, 1
        self.exchange_width = (l_max + 1) ** 2 * attention_channels
        self.geometry = EdgeGeometry(cutoff, n_basis, edge_channels, l_max, m_max, n_species, envelope_exponent)
        self.embedding = AtomEmbedding(l_max, channels, edge_channels, n_species, avg_num_neighbors)
        self.blocks = nn.ModuleList(
            [
                EquiformerBlock(l_max, m_max, channels, attention_channels, heads, ffn_channels, edge_channels)
                for _ in range(n_layers)
            ]
        )
        self.norm = DegreeNorm(l_max, channels)
        self.ends = False

    def limit_outputs(self, l_max: int) -> None:
        """See `Backbone.limit_outputs`; where heads read only scalars, the last block computes nothing else."""
        self.ends = l_max == 0
        cast(EquiformerBlock, self.blocks[-1]).ends = self.ends

    def set_double_geometry(self, double: bool) -> None:
        """See `Backbone.set_double_geometry`; distances, basis and frames are computed in float64."""
        self.geometry.double_geometry = double

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `node_features` [n_atoms, (l_max+1)^2, channels] to the graph, only scalars after `limit_outputs(0)`."""
        species, edge_index = graph["species"], graph["edge_index"]
        nodes = node_species(graph)
        edges = self.geometry(graph["edge_vec"], edge_index, species, nodes, edge_inputs(graph))
        features = self.embedding(species, edge_index, edges, input_features(graph))
        for block in self.blocks:
            features = block(features, edge_index, edges, nodes)
        out = dict(graph)
        out["node_features"] = self.norm.scalars(features) if self.ends else self.norm(features)
        return out


def check_positive(backbone: str, **options: float) -> None:
    """Check that options are positive.

    Raises:
        RecipeError: an option is not positive; the message names backbone, option and value.
    """
    for name, value in options.items():
        if not value > 0:
            raise RecipeError(f"backbone {backbone}: {name} is {value}; it must be positive")


def check_sizes(
    backbone: str,
    cutoff: float,
    l_max: int,
    m_max: int,
    channels: int,
    n_layers: int,
    heads: int,
    attention_channels: int,
) -> None:
    """Check that sizes are in range.

    Raises:
        RecipeError: a size is out of range; the message names backbone, option and value.
    """
    checks = [
        (cutoff > 0.0, f"cutoff is {cutoff} Angstrom; it must be positive"),
        (0 <= l_max <= 6, f"l_max is {l_max}; it must be between 0 and 6"),
        (m_max <= l_max, f"m_max is {m_max}, above l_max = {l_max}; lower it or leave it out"),
        (channels > 0, f"channels is {channels}; it must be positive"),
        (n_layers > 0, f"n_layers is {n_layers}; it must be at least 1"),
        (heads > 0 and attention_channels % heads == 0,
         f"attention_channels = {attention_channels} does not divide by heads = {heads}; choose a multiple"),
    ]  # fmt: skip
    for valid, message in checks:
        if not valid:
            raise RecipeError(f"backbone {backbone}: {message}")
