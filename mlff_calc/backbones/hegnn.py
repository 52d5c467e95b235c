"""`hegnn`: scalar messages, and steerable features of any degree that only inner products and scalar gates touch.

Beside its scalars h_i every atom carries v_i^(l), l = 1..l_max, in few channels. With Y_ij^(l) the spherical harmonics of
the edge, u the envelope and N the mean number of neighbours,

    v_i^(l)  = N^-1/2 sum_j u(r_ij) phi_0^(l)(r_ij, species_j) Y_ij^(l)                                    (start)
    w_i^(l)  = v_i^(l) / sqrt(1 + |v_i^(l)|^2)
    m_ij, g_ij, k_ij = phi_m(h_i, h_j, |w_i|, |w_j|, r_ij, <w_i, w_j>, <w_j, Y_ij>)
    h_i     <- h_i + phi_h(h_i, N^-1/2 sum_j u(r_ij) m_ij)
    v_i^(l) <- v_i^(l) + N^-1/2 sum_j u(r_ij) (g_ij^(l) w_j^(l) + k_ij^(l) Y_ij^(l)).

Degrees never mix: no Clebsch-Gordan product is made, and a degree costs 2l + 1 numbers per edge. `l_max: 0` is EGNN: it
sees distances and no direction. Inner products of normalized features stay below 1, however large the features grow; their
norms are in phi_m beside them.

| symbol | name in code | shape |
|---|---|---|
| h | `scalars` | [n_atoms, channels] |
| v, w | `steerable`, `bounded` | [n_atoms, width], width = steerable_channels * ((l_max+1)^2 - 1) |
| Y | `harmonics` | [n_edges, width] |

Source: Cen et al., "Are high-degree representations really unnecessary in equivariant graph neural networks?" (2024), Eqs.
5-9. Theirs moves coordinates and v by gated differences; ours, a function of fixed edge vectors, has the gated harmonics
k Y instead and inner products with Y in the message (g w_j leaves out the atom's own share of a difference),
differentiates Y, and bounds v where theirs suggests to divide by the norm plus one.
Satorras et al., "E(n) equivariant graph neural networks" (2021), is its case without degrees.
"""

import math
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from mlff_calc.backbones.base import Backbone, node_species, register_backbone
from mlff_calc.backbones.equiformer import check_positive
from mlff_calc.errors import RecipeError, StructureError
from mlff_calc.nn.dense import dense
from mlff_calc.nn.edges import EdgeBasis, safe_lengths
from mlff_calc.nn.exchange import exchange
from mlff_calc.nn.harmonics import SphericalHarmonics, degree_selector
from mlff_calc.nn.scatter import scatter_sum

HIGHEST_L_MAX = 10


class SteerableEdges(NamedTuple):
    """Geometry of the edges in the precision of the network.

    `basis` [n_edges, n_basis]; `weight` [n_edges, 1], the envelope over the root of the mean number of neighbours;
    `harmonics` [n_edges, width], once per copy.
    """

    basis: Tensor
    weight: Tensor
    harmonics: Tensor


class Degrees(nn.Module):
    """Sums over the components of a degree, and the way back, for features [n, width], width = copies * n_components.

    Args:
        l_max: highest degree. copies: of each degree, side by side.
    """

    selector: Tensor

    def __init__(self, l_max: int, copies: int) -> None:
        super().__init__()
        self.width = copies * ((l_max + 1) ** 2 - 1)
        self.n_degrees = copies * l_max
        selector = torch.kron(torch.eye(copies), degree_selector(l_max).t().contiguous())  # long rows are faster
        self.register_buffer("selector", selector, persistent=False)

    def sums(self, products: Tensor) -> Tensor:
        """Map components [n, width] to sums by degree and copy [n, n_degrees]."""
        return products @ self.selector.to(products.dtype).t()

    def spread(self, values: Tensor) -> Tensor:
        """Map values by degree and copy [n, n_degrees] to components [n, width]."""
        return values @ self.selector.to(values.dtype)


class HegnnLayer(nn.Module):
    """One layer: scalar messages that read inner products, and gates that move the steerable features.

    Args:
        l_max: highest degree. channels: of scalars and messages. copies: channels of steerable features.
        n_basis: width of the radial basis.
    """

    def __init__(self, l_max: int, channels: int, copies: int, n_basis: int) -> None:
        super().__init__()
        self.l_max = l_max
        self.channels = channels
        self.degrees = Degrees(l_max, copies)
        self.products = Degrees(l_max, 2 * copies)
        self.gates = Degrees(l_max, 2 * copies)
        self.width = self.degrees.width
        self.pair = dense(channels + self.degrees.n_degrees, 2 * channels)
        self.edge = nn.Parameter(torch.randn(n_basis + self.products.n_degrees, channels))
        self.edge.data *= (n_basis + self.products.n_degrees) ** -0.5
        self.message = dense(channels, channels + self.gates.n_degrees)
        self.update = nn.Sequential(dense(2 * channels, channels), nn.SiLU(), dense(channels, channels))

    def forward(
        self,
        scalars: Tensor,
        steerable: Tensor,
        edge_index: Tensor,
        edges: SteerableEdges,
        nodes: Optional[Tensor] = None,
    ) -> Tuple[Tensor, Tensor]:
        """Return new scalars [n_atoms, channels] and steerable features [n_atoms, width]."""
        n_atoms, channels, width = scalars.shape[0], self.channels, self.width
        rows = self.rows(scalars, steerable)
        target = rows[:, : channels + width].index_select(0, edge_index[0])
        source = exchange(rows[:, channels:], nodes).index_select(0, edge_index[1])
        if self.l_max == 0:
            hidden = nn.functional.silu(edges.basis @ self.edge + target + source)
            sent = nn.functional.silu(self.message(hidden)) * edges.weight
            received, moved = scatter_sum(sent, edge_index[0], n_atoms), steerable
        else:
            sent = self.messages(target, source, edges) * edges.weight
            both = scatter_sum(sent, edge_index[0], n_atoms)
            received, moved = both[:, :channels], both[:, channels:]
        scalars = scalars + self.update(torch.cat([scalars, received], dim=1))
        return scalars, steerable + moved

    def rows(self, scalars: Tensor, steerable: Tensor) -> Tensor:
        """What edges look up: of centres, bounded features, of neighbours [n_atoms, channels + width + channels]."""
        if self.l_max == 0:
            return self.pair(scalars)
        shrink = torch.rsqrt(1.0 + self.degrees.sums(steerable * steerable))
        bounded = steerable * self.degrees.spread(shrink)
        both = self.pair(torch.cat([scalars, shrink], dim=1))
        return torch.cat([both[:, : self.channels], bounded, both[:, self.channels :]], dim=1)

    def messages(self, target: Tensor, source: Tensor, edges: SteerableEdges) -> Tensor:
        """Scalar messages m and moves g w_j + k Y, side by side [n_edges, channels + width].

        Every piece of an edge is cut out once: the backward pass of a cut into all pieces joins them, where that of a slice
        fills a whole tensor with zeros.
        """
        channels, width, y = self.channels, self.width, edges.harmonics
        centre, own = torch.split(target, [channels, width], dim=1)
        other, neighbor = torch.split(source, [width, channels], dim=1)
        products = self.products.sums(torch.cat([own * other, other * y], dim=1))
        hidden = nn.functional.silu(torch.cat([edges.basis, products], dim=1) @ self.edge + centre + neighbor)
        message, gates = torch.split(self.message(hidden), [channels, self.gates.n_degrees], dim=1)
        along, beside = torch.split(self.gates.spread(gates), [width, width], dim=1)
        moves = along * other + beside * y
        return torch.cat([nn.functional.silu(message), moves], dim=1)


@register_backbone("hegnn")
class Hegnn(Backbone):
    """Scalar messages with high-degree steerable features; EGNN at `l_max: 0`.

    Args:
        n_species: number of elements of the potential.
        cutoff: radius of the graph, Angstrom. l_max: highest degree, 0 to 10. channels: of scalars and messages.
        n_layers: message-passing layers. steerable_channels: copies of each degree above zero (the source has one).
        n_basis: Bessel functions. envelope_exponent: the higher, the later the envelope falls.
        avg_num_neighbors: mean number of neighbours in the training data.
        centre: start from the harmonics of x_i - mean(x) of the system as well, times weights of the species. Graphs whose
            edges come in both directions need it to have odd degrees that do not cancel. It reads `positions`, not edges:
            it is for one finite system at a time or in a batch, and not for forces by gradient.

    Raises:
        RecipeError: an option out of range.
    """

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
        self.n_layers = n_layers
        self.is_fixed_point = False
        self.copies = steerable_channels
        self.double_geometry = False
        self.norm = float(avg_num_neighbors) ** -0.5
        self.geometry = EdgeBasis(cutoff, n_basis, envelope_exponent)
        self.harmonics = SphericalHarmonics(l_max)
        self.degrees = Degrees(l_max, steerable_channels)
        self.exchange_width = channels + self.degrees.width
        self.species = nn.Embedding(n_species, channels)
        n_gates = self.degrees.n_degrees
        self.start_radial = nn.Parameter(torch.randn(n_basis, n_gates) / math.sqrt(n_basis))
        self.start_species = nn.Parameter(1.0 + 0.5 * torch.randn(n_species, n_gates))
        self.centre = centre
        self.centre_species = nn.Parameter(torch.randn(n_species if centre else 0, n_gates))
        self.layers = nn.ModuleList([HegnnLayer(l_max, channels, steerable_channels, n_basis) for _ in range(n_layers)])
        self.widen = nn.Parameter(torch.randn(l_max, steerable_channels, channels) / math.sqrt(steerable_channels))

    def set_double_geometry(self, double: bool) -> None:
        """Distances, basis and harmonics in float64, cast to the precision of the weights afterwards."""
        self.double_geometry = double

    def forward(self, graph: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Add `node_features` [n_atoms, (l_max+1)^2, channels] to the graph.

        Raises:
            StructureError: `centre`, and a graph that has no centre, or whose energy is to be differentiated.
        """
        species, edge_index = graph["species"], graph["edge_index"]
        nodes = node_species(graph)
        edges = self.edges(graph["edge_vec"])
        scalars = self.species(species)
        steerable = self.start(species, edge_index, edges, nodes)
        if self.centre:
            steerable = steerable + self.from_centre(graph)
        for layer in self.layers:
            scalars, steerable = layer(scalars, steerable, edge_index, edges, nodes)
        out = dict(graph)
        out["node_features"] = self.features(scalars, steerable)
        return out

    def edges(self, edge_vec: Tensor) -> SteerableEdges:
        """Geometry of `edge_vec` [n_edges, 3] (Angstrom, float64), in the precision of the weights."""
        dtype = self.species.weight.dtype
        rays = self.geometry(edge_vec if self.double_geometry else edge_vec.to(dtype))
        harmonics = self.harmonics(rays.directions).to(dtype).repeat(1, self.copies)
        return SteerableEdges(rays.basis.to(dtype), (rays.envelope * self.norm).to(dtype).unsqueeze(-1), harmonics)

    def start(self, species: Tensor, edge_index: Tensor, edges: SteerableEdges, nodes: Optional[Tensor]) -> Tensor:
        """The first steerable features [n_atoms, width]: neighbourhoods projected on harmonics."""
        if self.l_max == 0:
            return edges.harmonics.new_zeros((species.shape[0], 0))
        neighbors = species if nodes is None else nodes
        by_species = self.start_species.index_select(0, neighbors).index_select(0, edge_index[1])
        gates = (edges.basis @ self.start_radial) * by_species * edges.weight
        return scatter_sum(self.degrees.spread(gates) * edges.harmonics, edge_index[0], species.shape[0])

    def from_centre(self, graph: Dict[str, Tensor]) -> Tensor:
        """Harmonics of x_i - mean(x) of each system, times weights of the species [n_atoms, width]."""
        if "node_species" in graph:
            raise StructureError(
                "backbone hegnn: centre is true, and this engine has ghost atoms; a system has no centre where atoms are "
                "spread over processes: train a potential with centre: false"
            )
        if "positions" not in graph or graph["edge_vec"].requires_grad:
            raise StructureError(
                "backbone hegnn: centre is true reads positions, through which no gradient by edge vectors goes; set "
                "centre: false for forces by gradient, or forces: direct"
            )
        if bool(graph["pbc"].any()):
            raise StructureError(
                "backbone hegnn: centre is true, and a system is periodic, so that it has no centre; set centre: false, or "
                "give structures with pbc off"
            )
        positions, index, n_systems = graph["positions"].double(), graph["system_index"], graph["cell"].shape[0]
        counts = scatter_sum(torch.ones_like(positions[:, :1]), index, n_systems).clamp(min=1.0)
        means = scatter_sum(positions, index, n_systems) / counts
        offsets = positions - means.index_select(0, index)
        harmonics = self.harmonics(offsets / safe_lengths(offsets).unsqueeze(-1)).to(self.species.weight.dtype)
        gates = self.centre_species.index_select(0, graph["species"])
        return self.degrees.spread(gates) * harmonics.repeat(1, self.copies)

    def features(self, scalars: Tensor, steerable: Tensor) -> Tensor:
        """Scalars, and each degree mixed from its copies to `channels` [n_atoms, (l_max+1)^2, channels]."""
        parts: List[Tensor] = [scalars.unsqueeze(1)]
        copies = steerable.view(scalars.shape[0], self.copies, steerable.shape[1] // self.copies).transpose(1, 2)
        for degree in range(1, self.l_max + 1):
            first = degree * degree - 1
            parts.append(copies[:, first : first + 2 * degree + 1] @ self.widen[degree - 1])
        return torch.cat(parts, dim=1)


def _check_options(l_max: int, centre: bool) -> None:
    """Refuse options out of range that no other backbone has.

    Raises:
        RecipeError: names option and value.
    """
    if not 0 <= l_max <= HIGHEST_L_MAX:
        raise RecipeError(f"backbone hegnn: l_max is {l_max}; it must be between 0 and {HIGHEST_L_MAX}")
    if centre and l_max == 0:
        raise RecipeError(
            "backbone hegnn: centre is true at l_max 0, which sees no direction; raise l_max, or leave it out"
        )
