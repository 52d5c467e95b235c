"""`cg_egnn`: features are multivectors of Cl(3,0), and messages travel along walks of several hops, bond by bond.

Features H_i are multivectors (nn/clifford.py) that start as scalars. In every layer, with the bond multivector of hop r

    B_ij^(r) = u(r_ij) (a_r(r_ij) + b_r(r_ij) e_ij),      e_ij the unit vector of the edge, u the envelope,

one a and one b per channel, and N the mean number of neighbours,

    M_i^(1) = N^-1/2 sum_j (A_1 H_j) B_ij^(1),      M_i^(r) = N^-1/2 sum_j (A_r M_j^(r-1)) B_ij^(r),     r <= hops,
    H_i    <- H_i + CEMLP([H_i, M_i^(1), ..., M_i^(hops)]).

M^(2) holds the products B_jk B_ij of two successive bonds: their scalar part is the cosine of the angle and their
bivector the plane of the angle; the product with a third bond gives the torsion. A walk of k hops passes k times over
the edges of the graph, so no list of more distant neighbours is needed. Heads receive grades 0 and 1, whose parities
are those of degrees 0 and 1. Bivectors and pseudoscalars have the opposite parities and stay inside.

With `moves`, atoms move from layer to layer, which predicts later positions: x_i <- x_i + sum_c p_c <H_ic>_1, with one
p per layer and channel. The next layer sees the edges of the moved atoms. The sum of the moves is the output `moved`.

| symbol | name in code | shape |
|---|---|---|
| H, M | `features`, `reached` | [8, n_atoms, channels] |
| u a, u b | `radial` | [n_edges, 2 * n_layers * hops, channels] |
| right product with e_ij | `turn` | [n_edges, 8, 8] |

Source: Tran et al., "A Clifford algebraic approach to E(n)-equivariant high-order graph neural networks" (2024); layers by
Ruhe et al., "Clifford group equivariant neural networks" (2023). The walk and its bond multivectors are ours:
perceptrons act on atoms, which are few, and edges need only one product with a vector. Positions enter only through
edges. Moving them between layers follows EGNN (Satorras et al., 2021).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.backbones.base import Backbone, node_species, register_backbone
from mlff_calc.backbones.equiformer import check_positive
from mlff_calc.backbones.inputs import add_inputs, edge_inputs, input_features
from mlff_calc.errors import RecipeError, StructureError
from mlff_calc.nn.clifford import CEMLP, MVLinear, VectorProduct
from mlff_calc.nn.dense import dense
from mlff_calc.nn.edges import EdgeBasis
from mlff_calc.nn.exchange import exchange
from mlff_calc.nn.scatter import scatter_sum

SMALL = 1e-2
"""Scale of the moves of a new network. Raising it makes atoms move farther before training."""


class Bonds(NamedTuple):
    """Radial weights [n_edges, 2 * n_layers * hops, channels] and products with directions [n_edges, 8, 8]."""

    radial: Tensor
    turn: Tensor


class Hop(nn.Module):
    """One step of a walk: multivectors of neighbours are multiplied by the bond and summed.

    Args:
        channels: number of channels per blade.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lift = MVLinear(channels, channels)

    def forward(
        self, features: Tensor, edge_index: Tensor, radial: Tensor, turn: Tensor, nodes: Tensor | None = None
    ) -> Tensor:
        """Map multivectors [8, n_atoms, channels] to the same shape; `radial` [n_edges, 2, channels]."""
        n_atoms = features.shape[1]
        rows = self.lift(features).transpose(0, 1).contiguous()
        given = exchange(rows, nodes).index_select(0, edge_index[1])
        turned = torch.bmm(turn, given * radial[:, 1:])
        return scatter_sum(torch.addcmul(turned, given, radial[:, :1]), edge_index[0], n_atoms).transpose(0, 1)


class CliffordBlock(nn.Module):
    """One layer: a walk, and a perceptron of the atom's features and the results of all hops.

    Args:
        channels: number of channels per blade.
        hops: number of steps of the walk.
    """

    def __init__(self, channels: int, hops: int) -> None:
        super().__init__()
        self.hops = nn.ModuleList([Hop(channels) for _ in range(hops)])
        self.update = CEMLP((hops + 1) * channels, channels, channels)

    def forward(
        self, features: Tensor, edge_index: Tensor, radial: Tensor, turn: Tensor, nodes: Tensor | None = None
    ) -> Tensor:
        """Map multivectors [8, n_atoms, channels] to the same shape; `radial` [n_edges, 2 * hops, channels]."""
        return features + self.change(features, edge_index, radial, turn, nodes)

    def change(
        self, features: Tensor, edge_index: Tensor, radial: Tensor, turn: Tensor, nodes: Tensor | None = None
    ) -> Tensor:
        """Compute what the layer adds to its input [8, n_atoms, channels]; arguments are those of `forward`."""
        reached = [features]
        for r, hop in enumerate(self.hops):
            reached.append(hop(reached[-1], edge_index, radial[:, 2 * r : 2 * r + 2], turn, nodes))
        return self.update(torch.cat(reached, dim=2))


@register_backbone("cg_egnn")
class CgEgnn(Backbone):
    """Clifford-algebraic message passing over walks of several hops.

    Args:
        n_species: number of elements of the potential.
        cutoff: radius of the graph [Angstrom].
        l_max: highest degree passed to heads, 0 or 1.
        channels: number of multivectors per atom.
        n_layers: number of layers, each with a walk and a perceptron.
        hops: number of steps of each walk; the reach of an atom is n_layers * hops cutoffs.
        n_basis: number of Bessel functions.
        edge_channels: width of the radial network.
        envelope_exponent: exponent of the envelope; the higher it is, the nearer to the cutoff the envelope falls.
        avg_num_neighbors: mean number of neighbours in the training data.
        moves: switch that moves atoms from layer to layer, for propagators.

    Attributes:
        n_layers: number of passes over the edges, which is the product of the options n_layers and hops.

    Raises:
        RecipeError: an option is out of range.
    """

    after_layers = ("radial", "push")  # they give every layer its weights, the last one too

    def __init__(
        self,
        n_species: int,
        cutoff: float = 5.0,
        l_max: int = 1,
        channels: int = 28,
        n_layers: int = 2,
        hops: int = 2,
        n_basis: int = 8,
        edge_channels: int = 32,
        envelope_exponent: int = 5,
        avg_num_neighbors: float = 10.0,
        moves: bool = False,
    ) -> None:
        super().__init__()
        if l_max not in (0, 1):
            raise RecipeError(f"backbone cg_egnn: l_max is {l_max}; multivectors have vectors at most; choose 0 or 1")
        check_positive(
            "cg_egnn",
            cutoff=cutoff,
            channels=channels,
            n_layers=n_layers,
            hops=hops,
            n_basis=n_basis,
            edge_channels=edge_channels,
            envelope_exponent=envelope_exponent,
            avg_num_neighbors=avg_num_neighbors,
        )
        self.cutoff = float(cutoff)
        self.l_max = l_max
        self.channels = channels
        self.n_layers = n_layers * hops
        self.hops = hops
        self.exchange_width = 8 * channels
        self.double_geometry = False
        self.norm = float(avg_num_neighbors) ** -0.5
        self.geometry = EdgeBasis(cutoff, n_basis, envelope_exponent)
        self.vector_product = VectorProduct()
        radial = [dense(n_basis, edge_channels), nn.SiLU(), dense(edge_channels, 2 * n_layers * hops * channels)]
        self.radial = nn.Sequential(*radial)
        self.species = nn.Embedding(n_species, channels)
        self.blocks = nn.ModuleList([CliffordBlock(channels, hops) for _ in range(n_layers)])
        self.moves = moves
        self.push = nn.Parameter(SMALL * torch.randn(n_layers if moves else 0, channels))

    def set_double_geometry(self, double: bool) -> None:
        """See `Backbone.set_double_geometry`; distances, basis and directions are computed in float64."""
        self.double_geometry = double

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `node_features` [n_atoms, (l_max+1)^2, channels] to the graph, and with `moves` also `moved` [n_atoms, 3].

        `input_features` and `edge_inputs` of the graph, where present, are added to the first features and the radial
        basis.

        Raises:
            StructureError: `moves` is on and the graph has ghost atoms.
        """
        edge_index, edge_vec, known = graph["edge_index"], graph["edge_vec"], edge_inputs(graph)
        nodes = node_species(graph)
        if self.moves and nodes is not None:
            raise StructureError(
                "backbone cg_egnn: moves is true, but this engine does not exchange the moves of ghost atoms; train "
                "a potential with moves: false"
            )
        features, bonds = self.first(graph)
        shift = features.new_zeros((features.shape[1], 3))
        for i, block in enumerate(self.blocks):
            if self.moves and i > 0:
                change = shift.index_select(0, edge_index[1]) - shift.index_select(0, edge_index[0])
                bonds = self.bonds(edge_vec + change.to(edge_vec.dtype), known)
            own = bonds.radial[:, 2 * self.hops * i : 2 * self.hops * (i + 1)]
            features = block(features, edge_index, own, bonds.turn, nodes)
            if self.moves:
                shift = shift + (features[1:4] @ self.push[i]).t()
        out = dict(graph)
        out["node_features"] = features[: 1 + 3 * self.l_max].transpose(0, 1)
        if self.moves:
            out["moved"] = shift
        return out

    def first(self, graph: dict[str, Tensor]) -> tuple[Tensor, Bonds]:
        """Compute the first multivectors [8, n_atoms, channels], and bonds."""
        features = nn.functional.pad(self.species(graph["species"]).unsqueeze(0), [0, 0, 0, 0, 0, 7])
        inputs = input_features(graph)
        if inputs is not None:
            features = add_inputs(features.transpose(0, 1), inputs).transpose(0, 1)
        return features, self.bonds(graph["edge_vec"], edge_inputs(graph))

    def bonds(self, edge_vec: Tensor, known: Tensor | None) -> Bonds:
        """Compute bond multivectors of `edge_vec` [n_edges, 3] (Angstrom)and optional inputs [n_edges, n_basis]."""
        dtype = self.species.weight.dtype
        rays = self.geometry(edge_vec if self.double_geometry else edge_vec.to(dtype))
        basis = rays.basis.to(dtype)
        if known is not None:
            basis = basis + known.to(dtype)
        radial = self.radial(basis) * (rays.envelope * self.norm).to(dtype).unsqueeze(-1)
        radial = radial.view(edge_vec.shape[0], 2 * self.n_layers, self.channels)
        return Bonds(radial, self.vector_product(rays.directions.to(dtype)))
