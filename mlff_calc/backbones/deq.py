"""`deq`: node features as the fixed point of one or two blocks of `equiformer`.

A stack of layers becomes one map, applied to its own output until nothing changes: z* = f(z*; x). The first block writes on the
embedding u(x) instead of on z, so that f is bounded for any z:

    f(z; x) = B(u + A(norm(z)))      A: graph attention, B: the rest of the block, and the second block where there is one.

All normalization is per atom, so that neither a batch nor the size of a system enters. What depends on geometry only (u,
envelope, frames, radial weights) is computed once per structure and shared by all evaluations.

| symbol | name in code | shape |
|---|---|---|
| z | `state` | [n_atoms, (l_max+1)^2, channels] |
| u, envelope, frames, radial weights by block | `Prepared` | |

Source: Burger et al., "DEQuify your force field" (2025), Sec. 3: a weight-tied EquiformerV2 block with input injection; ours
injects by replacing the residual stream, per atom, where theirs rescales by one norm over the batch.
"""

from typing import Dict, List

import torch
from torch import Tensor, nn

from mlff_calc.backbones.base import Backbone, register_backbone
from mlff_calc.backbones.equiformer import AtomEmbedding, EdgeGeometry, EquiformerBlock
from mlff_calc.errors import RecipeError
from mlff_calc.nn.degree import DegreeNorm
from mlff_calc.nn.scatter import exchange


@register_backbone("deq")
class Deq(Backbone):
    """Fixed point of one or two equivariant graph-attention blocks.

    Args:
        n_species: number of elements of the potential.
        n_blocks: blocks of f, 1 or 2.
        cutoff, l_max, m_max, channels, heads, attention_channels, ffn_channels, n_basis, edge_channels,
            envelope_exponent, avg_num_neighbors: see `Equiformer`.

    Raises:
        RecipeError: an option out of range.
    """

    def __init__(
        self,
        n_species: int,
        n_blocks: int = 1,
        cutoff: float = 5.0,
        l_max: int = 2,
        m_max: int = -1,
        channels: int = 32,
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
        if n_blocks not in (1, 2):
            raise RecipeError(f"backbone deq: n_blocks is {n_blocks}; choose 1 or 2")
        self.cutoff = float(cutoff)
        self.l_max = l_max
        self.channels = channels
        self.n_layers = n_blocks
        self.is_fixed_point = True
        self.geometry = EdgeGeometry(cutoff, n_basis, edge_channels, l_max, m_max, n_species, envelope_exponent)
        self.embedding = AtomEmbedding(l_max, channels, edge_channels, n_species, avg_num_neighbors)
        self.blocks = nn.ModuleList(
            [
                EquiformerBlock(l_max, m_max, channels, attention_channels, heads, ffn_channels, edge_channels)
                for _ in range(n_blocks)
            ]
        )
        self.norm = DegreeNorm(l_max, channels)

    def set_double_geometry(self, double: bool) -> None:
        """Distances, basis and frames in float64, cast to the precision of the weights afterwards."""
        self.geometry.double_geometry = double

    def prepare(self, graph: Dict[str, Tensor]) -> List[Tensor]:
        """What f needs of a structure: embedding, envelope, frames, and the radial weights of each block."""
        species, edge_index = graph["species"], graph["edge_index"]
        edges = self.geometry(graph["edge_vec"], edge_index, species)
        prepared = [self.embedding(species, edge_index, edges), edges.envelope, edges.wigner]
        for block in self.blocks:
            prepared.append(block.attention.radial_weights(edges.scalars))
        return prepared

    def evaluate(self, state: Tensor, edge_index: Tensor, prepared: List[Tensor]) -> Tensor:
        """One evaluation f(z) [n_atoms, (l_max+1)^2, channels] of `state` z, with what `prepare` gave."""
        features = prepared[0]
        for i, block in enumerate(self.blocks):
            source = exchange(state if i == 0 else features)
            message = block.attention(
                block.attention_norm(source), edge_index, prepared[3 + i], prepared[1], prepared[2]
            )
            features = features + message
            features = features + block.ffn(block.ffn_norm(features))
        return features
