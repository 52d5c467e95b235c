"""`cg_egnn`: multivectors of Cl(3,0) as features, and messages by walks of several hops, multiplied bond by bond.

Features H_i are multivectors (nn/clifford.py), scalars at the start. In every layer, with the bond multivector of hop r

    B_ij^(r) = u(r_ij) (a_r(r_ij) + b_r(r_ij) e_ij),      e_ij the unit vector of the edge, u the envelope,

one a and one b per channel, and N the mean number of neighbours,

    M_i^(1) = N^-1/2 sum_j (A_1 H_j) B_ij^(1),      M_i^(r) = N^-1/2 sum_j (A_r M_j^(r-1)) B_ij^(r),     r <= hops,
    H_i    <- H_i + CEMLP([H_i, M_i^(1), ..., M_i^(hops)]).

M^(2) holds the products B_jk B_ij of two bonds in a row: their scalar part is the cosine of the angle, their bivector the
plane of the angle, and the product with a third bond the torsion. A walk of k hops passes k times over the edges of the
graph, whatever k is: no list of further neighbours is made. Heads are given grade 0 and grade 1, whose parities are those of
degrees 0 and 1; bivectors and pseudoscalars have the other ones and stay inside.

With `moves` atoms move from layer to layer, which predicts where they will be: x_i <- x_i + sum_c p_c <H_ic>_1, one p per
layer and channel, and the next layer sees the edges as they are then. The sum of the moves is the output `moved`.

| symbol | name in code | shape |
|---|---|---|
| H, M | `features`, `reached` | [8, n_atoms, channels] |
| u a, u b | `radial` | [n_edges, 2 * n_layers * hops, channels] |
| right product with e_ij | `turn` | [n_edges, 8, 8] |

Source: Tran et al., "A Clifford algebraic approach to E(n)-equivariant high-order graph neural networks" (2024); layers by
Ruhe et al., "Clifford group equivariant neural networks" (2023). The walk and its bond multivectors are ours: perceptrons
stand on atoms, of which there are few, and edges do one product with a vector. Positions enter by edges alone; moving them
between layers is EGNN's (Satorras et al., 2021).
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
"""Scale of the first moves: a new network leaves atoms nearly where they are."""


class Bonds(NamedTuple):
    """`radial` [n_edges, 2 * n_layers * hops, channels] and `turn` [n_edges, 8, 8]; see the module's table."""

    radial: Tensor
    turn: Tensor


class Hop(nn.Module):
    """One step of a walk: multivectors of neighbours times the bond, summed.

    Args:
        channels: per blade.
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
    """One layer: a walk, and a perceptron of the atom and all it reached.

    Args:
        channels: per blade. hops: steps of the walk.
    """

    def __init__(self, channels: int, hops: int) -> None:
        super().__init__()
        self.hops = nn.ModuleList([Hop(channels) for _ in range(hops)])
        self.update = CEMLP((hops + 1) * channels, channels, channels)

    def forward(
        self, features: Tensor, edge_index: Tensor, radial: Tensor, turn: Tensor, nodes: Tensor | None = None
    ) -> Tensor:
        """Map multivectors [8, n_atoms, channels] to the same shape; `radial` [n_edges, 2 * hops, channels]."""
        reached = [features]
        for r, hop in enumerate(self.hops):
            reached.append(hop(reached[-1], edge_index, radial[:, 2 * r : 2 * r + 2], turn, nodes))
        return features + self.update(torch.cat(reached, dim=2))


@register_backbone("cg_egnn")
class CgEgnn(Backbone):
    """Clifford-algebraic message passing over walks of several hops.

    Args:
        n_species: number of elements of the potential.
        cutoff: radius of the graph [Angstrom]. l_max: highest degree handed to heads, 0 or 1.
        channels: number of multivectors per atom. n_layers: number of layers, each with a walk and a perceptron.
        hops: number of steps of each walk; atoms see n_layers * hops cutoffs far.
        n_basis: number of Bessel functions. edge_channels: width of the radial network.
        envelope_exponent: exponent of the envelope; the higher it is, the nearer to the cutoff the envelope falls.
        avg_num_neighbors: mean number of neighbours in the training data.
        moves: switch; atoms move from layer to layer. For propagators.

    Attributes:
        n_layers: passes over the edges, n_layers * hops of the options.

    Raises:
        RecipeError: an option out of range.
    """

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
            raise RecipeError(f"backbone cg_egnn: l_max is {l_max}; multivectors have vectors, so that it is 0 or 1")
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
        """Distances, basis and directions in float64, cast to the precision of the weights afterwards."""
        self.double_geometry = double

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `node_features` [n_atoms, (l_max+1)^2, channels] to the graph, and with `moves` `moved` [n_atoms, 3].

        Where the graph has `input_features` and `edge_inputs`, they are added to first features and radial basis.

        Raises:
            StructureError: `moves`, and ghost atoms.
        """
        edge_index, edge_vec, known = graph["edge_index"], graph["edge_vec"], edge_inputs(graph)
        nodes = node_species(graph)
        if self.moves and nodes is not None:
            raise StructureError(
                "backbone cg_egnn: moves is true, and this engine has ghost atoms, whose moves it does not exchange; train "
                "a potential with moves: false"
            )
        features = nn.functional.pad(self.species(graph["species"]).unsqueeze(0), [0, 0, 0, 0, 0, 7])
        inputs = input_features(graph)
        if inputs is not None:
            features = add_inputs(features.transpose(0, 1), inputs).transpose(0, 1)
        bonds = self.bonds(edge_vec, known)
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

    def bonds(self, edge_vec: Tensor, known: Tensor | None) -> Bonds:
        """Bond multivectors of `edge_vec` [n_edges, 3] (Angstrom), with what is `known` of edges [n_edges, n_basis]."""
        dtype = self.species.weight.dtype
        rays = self.geometry(edge_vec if self.double_geometry else edge_vec.to(dtype))
        basis = rays.basis.to(dtype)
        if known is not None:
            basis = basis + known.to(dtype)
        radial = self.radial(basis) * (rays.envelope * self.norm).to(dtype).unsqueeze(-1)
        radial = radial.view(edge_vec.shape[0], 2 * self.n_layers, self.channels)
        return Bonds(radial, self.vector_product(rays.directions.to(dtype)))
