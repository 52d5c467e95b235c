"""`hegnn`: scalar messages, with steerable features of any degree that are used only in inner products and scalar gates.

Besides its scalars h_i every atom carries v_i^(l), l = 1..l_max, in few channels. With Y_ij^(l) the spherical harmonics
of the edge, u the envelope and N the mean number of neighbours,

    v_i^(l)  = N^-1/2 sum_j u(r_ij) phi_0^(l)(r_ij, species_j) Y_ij^(l)                                    (start)
    w_i^(l)  = v_i^(l) / sqrt(1 + |v_i^(l)|^2)
    m_ij, g_ij, k_ij = phi_m(h_i, h_j, |w_i|, |w_j|, r_ij, <w_i, w_j>, <w_j, Y_ij>)
    h_i     <- h_i + phi_h(h_i, N^-1/2 sum_j u(r_ij) m_ij)
    v_i^(l) <- v_i^(l) + N^-1/2 sum_j u(r_ij) (g_ij^(l) w_j^(l) + k_ij^(l) Y_ij^(l)).

Degrees never mix: there are no Clebsch-Gordan products, and a degree costs 2l + 1 numbers per edge. `l_max: 0` is EGNN,
which sees distances but no directions. Inner products of normalized features stay below 1 however large the features
grow; the norms themselves are given to phi_m as well.

With `moves`, atoms move from layer to layer, which predicts later positions. With d_i the free drift of atom i, and g,
k and the new f read from m by a perceptron of two layers,

    x_i <- x_i + N^-1/2 sum_j u(r_ij) f_ij (x_i - x_j) + phi_d(h_i) d_i,

and the next layer sees the edges of the moved atoms, but the harmonics of the first geometry, as in the source (new
harmonics were no more accurate on charged bodies, and 10 % slower). The sum of the moves is the output `moved`.

| symbol | name in code | shape |
|---|---|---|
| h | `scalars` | [n_atoms, channels] |
| v, w | `steerable`, `bounded` | [n_atoms, wide] |
| Y | `harmonics` | [n_edges, wide] |
| x_j - x_i | `rays` | [n_edges, 3] |
| d | `drift` | [n_atoms, 3] |

wide is steerable_channels * ((l_max+1)^2 - 1), padded with zeros to a multiple of sixteen.

Source: Cen et al., "Are high-degree representations really unnecessary in equivariant graph neural networks?" (2024), Eqs.
5-9. The source moves coordinates (as `moves` does here) and v by gated differences. This version has the gated
harmonics k Y instead, and inner products with Y in the message (g w_j omits the atom's own part of the difference). It
differentiates Y, and bounds v where the source suggests dividing by the norm plus one. Sums are divided by the root of
a fixed number of neighbours, not by their count; up to a factor, both agree on graphs where all atoms have equally many
neighbours. The case without degrees is Satorras et al., "E(n) equivariant graph neural networks" (2021); with `moves`,
see Eqs. 3-7 there.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from mlff_calc.backbones.base import Backbone, node_species, register_backbone
from mlff_calc.backbones.equiformer import check_positive
from mlff_calc.backbones.hegnn_layer import HegnnLayer, SteerableEdges
from mlff_calc.backbones.inputs import edge_inputs, input_features
from mlff_calc.errors import RecipeError, StructureError
from mlff_calc.nn.edges import EdgeBasis, safe_lengths
from mlff_calc.nn.harmonics import Degrees, SphericalHarmonics, lanes
from mlff_calc.nn.scatter import from_mean, scatter_sum

HIGHEST_L_MAX = 10
"""Largest accepted degree. A larger one would need spherical harmonics of higher degrees, whose cost grows quadratically."""


@register_backbone("hegnn")
class Hegnn(Backbone):
    """Scalar messages with high-degree steerable features; EGNN at `l_max: 0`.

    Args:
        n_species: number of elements of the potential.
        cutoff: radius of the graph [Angstrom].
        l_max: highest degree, 0 to 10.
        channels: number of scalars and messages.
        n_layers: number of message-passing layers.
        steerable_channels: number of copies of each degree above zero (1 in the source).
        n_basis: number of Bessel functions.
        envelope_exponent: exponent of the envelope; the higher it is, the nearer to the cutoff the envelope falls.
        avg_num_neighbors: mean number of neighbours in the training data.
        centre: switch that adds to the start the harmonics of x_i - mean(x) of the system, times weights of the
            species. Graphs whose edges come in both directions need it, since odd degrees cancel otherwise. It reads
            `positions` and not edges, so it suits finite systems, but not forces by gradient.
        moves: switch that moves atoms from layer to layer and adds the output `moved`, for propagators.

    Raises:
        RecipeError: an option is out of range.
    """

    layers_name = "layers"
    after_layers = ("widen",)

    def __init__(
        self,
        n_species: int,
        cutoff: float = 5.0,
        l_max: int = 3,
        channels: int = 64,
        n_layers: int = 4,
        steerable_channels: int = 1,
        n_basis: int = 8,
        envelope_exponent: int = 5,
        avg_num_neighbors: float = 10.0,
        centre: bool = False,
        moves: bool = False,
    ) -> None:
        super().__init__()
        _check_options(l_max, centre)
        check_positive(
            "hegnn",
            cutoff=cutoff,
            channels=channels,
            n_layers=n_layers,
            steerable_channels=steerable_channels,
            n_basis=n_basis,
            envelope_exponent=envelope_exponent,
            avg_num_neighbors=avg_num_neighbors,
        )
        self.cutoff = float(cutoff)
        self.l_max = l_max
        self.channels = channels
        self.n_layers, self.first_hops = n_layers, int(l_max > 0)
        self.read_l_max = l_max
        self.copies = steerable_channels
        self.double_geometry = False
        self.norm = float(avg_num_neighbors) ** -0.5
        self.geometry = EdgeBasis(cutoff, n_basis, envelope_exponent)
        self.harmonics = SphericalHarmonics(l_max)
        self.degrees = Degrees(l_max, steerable_channels)
        self.exchange_width = channels + self.degrees.wide
        self.n_reads = lanes(n_basis + 2 * self.degrees.n_degrees) if l_max > 0 else n_basis
        self.species = nn.Embedding(n_species, channels)
        n_gates = self.degrees.n_degrees
        self.start_radial = nn.Parameter(torch.randn(n_basis, n_gates) / math.sqrt(n_basis))
        self.start_species = nn.Parameter(1.0 + 0.5 * torch.randn(n_species, n_gates))
        self.centre = centre
        self.centre_species = nn.Parameter(torch.randn(n_species if centre else 0, n_gates))
        self.moves = moves
        layers = [HegnnLayer(l_max, channels, steerable_channels, n_basis, moves) for _ in range(n_layers)]
        self.layers = nn.ModuleList(layers)
        self.widen = nn.Parameter(torch.randn(l_max, steerable_channels, channels) / math.sqrt(steerable_channels))
        self.register_buffer("fold", _fold(channels, steerable_channels), persistent=False)

    def limit_outputs(self, l_max: int) -> None:
        """See `Backbone.limit_outputs`; for scalars alone, the last layer leaves the steerable features unchanged."""
        self.read_l_max = min(l_max, self.l_max)
        cast(HegnnLayer, self.layers[-1]).ends = self.read_l_max == 0

    def set_double_geometry(self, double: bool) -> None:
        """See `Backbone.set_double_geometry`; distances, basis and harmonics are computed in float64."""
        self.double_geometry = double

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `node_features` [n_atoms, (l_max+1)^2, channels] to the graph, and with `moves` also `moved` [n_atoms, 3].

        Degrees above that of `limit_outputs` are left out. `input_features` and `edge_inputs` of the graph, where
        present, are added to the first features and the radial basis. `moves` reads the graph's `drift`; without it,
        atoms move only by f.

        Raises:
            StructureError: `centre` or `moves` is on and the graph has ghost atoms, or `centre` is on for a graph that
                is periodic or whose energy is to be differentiated.
        """
        edge_index, edge_vec = graph["edge_index"], graph["edge_vec"]
        nodes, known, drift = node_species(graph), edge_inputs(graph), self.drift(graph)
        edges, scalars, steerable = self.first(graph)
        shift = scalars.new_zeros((scalars.shape[0], 3))
        for i, layer in enumerate(self.layers):
            if self.moves and i > 0:
                change = shift.index_select(0, edge_index[1]) - shift.index_select(0, edge_index[0])
                edges = self.edges(edge_vec + change.to(edge_vec.dtype), known, edges.harmonics)
            scalars, steerable, moved = layer(scalars, steerable, edge_index, edges, nodes, drift)
            if self.moves:
                shift = shift + moved
        out = dict(graph)
        out["node_features"] = self.features(scalars, steerable)
        if self.moves:
            out["moved"] = shift
        return out

    def first(self, graph: dict[str, Tensor]) -> tuple[SteerableEdges, Tensor, Tensor]:
        """Compute the geometry of edges, the first scalars [n_atoms, channels] and steerable features [n_atoms, wide].

        Raises:
            StructureError: see `forward`.
        """
        species, nodes = graph["species"], node_species(graph)
        edges = self.edges(graph["edge_vec"], edge_inputs(graph))
        scalars, steerable = self.with_inputs(
            graph, self.species(species), self.start(species, graph["edge_index"], edges, nodes)
        )
        return edges, scalars, steerable + self.from_centre(graph) if self.centre else steerable

    def drift(self, graph: dict[str, Tensor]) -> Tensor | None:
        """Return the drift that `moves` scales and adds to positions [n_atoms, 3], in the precision of the weights.

        Raises:
            StructureError: `moves` is on and the graph has ghost atoms, whose moves no engine exchanges.
        """
        if not self.moves:
            return None
        if "node_species" in graph:
            raise StructureError(
                "backbone hegnn: moves is true, but this engine does not exchange the moves of ghost atoms; train a "
                "potential with moves: false"
            )
        if "drift" in graph:
            return graph["drift"].to(self.species.weight.dtype)
        return None

    def with_inputs(self, graph: dict[str, Tensor], scalars: Tensor, steerable: Tensor) -> tuple[Tensor, Tensor]:
        """Add `input_features`, if any, to the first features; channels of vectors are folded to the copies of v^(1)."""
        inputs = input_features(graph)
        if inputs is None:
            return scalars, steerable
        scalars = scalars + inputs[:, 0]
        if self.l_max == 0:
            return scalars, steerable
        folded = (inputs[:, 1:4] @ self.fold.to(inputs.dtype)).transpose(1, 2)  # [n_atoms, copies, 3]
        rest = self.degrees.width // self.copies - 3
        return scalars, steerable + self.filled(nn.functional.pad(folded, [0, rest]).flatten(1))

    def edges(
        self, edge_vec: Tensor, known: Tensor | None = None, harmonics: Tensor | None = None
    ) -> SteerableEdges:
        """Compute the geometry of edges in the precision of the weights.

        Args:
            edge_vec: vectors from centres to neighbours [n_edges, 3], Angstrom, float64.
            known: further inputs of edges, added to the radial basis [n_edges, n_basis].
            harmonics: harmonics of an earlier geometry to use again [n_edges, wide].
        """
        dtype = self.species.weight.dtype
        rays = self.geometry(edge_vec if self.double_geometry else edge_vec.to(dtype))
        if harmonics is None:
            harmonics = self.harmonics(rays.directions).to(dtype)
            harmonics = self.filled(harmonics.repeat(1, self.copies) if self.copies > 1 else harmonics)
        basis = rays.basis.to(dtype)
        if known is not None:
            basis = basis + known.to(dtype)
        basis = nn.functional.pad(basis, [0, self.n_reads - basis.shape[1]])
        weight = (rays.envelope * self.norm).to(dtype).unsqueeze(-1)
        return SteerableEdges(basis, weight, harmonics, edge_vec.to(dtype))

    def filled(self, steerable: Tensor) -> Tensor:
        """Pad features [n, width] with columns of zeros to [n, wide]."""
        return nn.functional.pad(steerable, [0, self.degrees.wide - self.degrees.width])

    def start(self, species: Tensor, edge_index: Tensor, edges: SteerableEdges, nodes: Tensor | None) -> Tensor:
        """Compute the first steerable features [n_atoms, wide]: neighbourhoods projected onto harmonics."""
        if self.l_max == 0:
            return edges.harmonics.new_zeros((species.shape[0], 0))
        radial = nn.functional.pad(self.start_radial, [0, 0, 0, self.n_reads - self.start_radial.shape[0]])
        neighbors = species if nodes is None else nodes
        by_species = self.degrees.spread(self.start_species).index_select(0, neighbors).index_select(0, edge_index[1])
        gates = (edges.basis @ self.degrees.spread(radial)) * by_species * edges.weight
        return scatter_sum(gates * edges.harmonics, edge_index[0], species.shape[0])

    def from_centre(self, graph: dict[str, Tensor]) -> Tensor:
        """Compute harmonics of x_i - mean(x) of each system, times weights of the species [n_atoms, wide]."""
        if "node_species" in graph:
            raise StructureError(
                "backbone hegnn: centre is true, but an engine with ghost atoms does not know the centre of a system; "
                "train a potential with centre: false"
            )
        if "positions" not in graph or graph["edge_vec"].requires_grad:
            raise StructureError(
                "backbone hegnn: centre is true, which reads positions, but a gradient by edge vectors misses them; set "
                "centre: false for forces by gradient, or forces: direct"
            )
        if bool(graph["pbc"].any()):
            raise StructureError(
                "backbone hegnn: centre is true, but a periodic system has no centre; set centre: false, or "
                "give structures with pbc off"
            )
        offsets = from_mean(graph["positions"], graph["system_index"], graph["cell"].shape[0])
        harmonics = self.harmonics(offsets / safe_lengths(offsets).unsqueeze(-1)).to(self.species.weight.dtype)
        gates = self.centre_species.index_select(0, graph["species"])
        return self.degrees.spread(gates) * self.filled(harmonics.repeat(1, self.copies))

    def features(self, scalars: Tensor, steerable: Tensor) -> Tensor:
        """Join the scalars and each degree, mixed from its copies to `channels` [n_atoms, (l_max+1)^2, channels]."""
        parts = [scalars.unsqueeze(1)]
        width = self.degrees.width
        copies = steerable[:, :width].view(scalars.shape[0], self.copies, width // self.copies).transpose(1, 2)
        for degree in range(1, self.read_l_max + 1):
            first = degree * degree - 1
            parts.append(copies[:, first : first + 2 * degree + 1] @ self.widen[degree - 1])
        return torch.cat(parts, dim=1)


def _fold(channels: int, copies: int) -> Tensor:
    """Matrix [channels, copies] that sums every `copies`-th channel and divides by the root of their number."""
    folded = torch.eye(copies).repeat(-(-channels // copies), 1)[:channels]
    return folded / folded.sum(dim=0).clamp(min=1.0).sqrt()


def _check_options(l_max: int, centre: bool) -> None:
    """Check the options that no other backbone has.

    Raises:
        RecipeError: an option is out of range; the message names option and value.
    """
    if not 0 <= l_max <= HIGHEST_L_MAX:
        raise RecipeError(f"backbone hegnn: l_max is {l_max}; it must be between 0 and {HIGHEST_L_MAX}")
    if centre and l_max == 0:
        raise RecipeError(
            "backbone hegnn: centre is true at l_max 0, which has no directions; raise l_max, or leave it out"
        )
