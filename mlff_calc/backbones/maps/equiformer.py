"""The fixed point of blocks of `equiformer`: f(z; x) = B(u + A(norm(z))).

A is the graph attention of the first block and B the rest of it, and the further blocks where there are some. The state is
[n_atoms, (l_max+1)^2, channels].
"""

from __future__ import annotations

from torch import Tensor, nn

from mlff_calc.backbones.base import node_species
from mlff_calc.backbones.equiformer import Equiformer, EquiformerBlock
from mlff_calc.backbones.inputs import edge_inputs, input_features
from mlff_calc.backbones.maps.base import FixedPointMap, pop_last, register_map
from mlff_calc.nn.degree import DegreeNorm


@register_map("equiformer")
class EquiformerMap(FixedPointMap[Equiformer]):
    """Blocks of graph attention; see `FixedPointMap`."""

    stack_class = Equiformer
    scaled = ("blocks.0.attention.project.weight",)

    def taken_from(self, stack: Equiformer, n_blocks: int) -> list[nn.Module]:
        """See `FixedPointMap.taken_from`."""
        return pop_last(stack.blocks, n_blocks)

    def state_shape(self, stack: Equiformer) -> tuple[int, int]:
        """Shape of node features."""
        return (stack.l_max + 1) ** 2, stack.channels

    def hidden(self, stack: Equiformer) -> int:
        """Number of attention channels."""
        del stack
        return self._blocks()[0].attention.hidden

    def prepare(self, stack: Equiformer, graph: dict[str, Tensor]) -> list[Tensor]:
        """Compute u, the envelope, the frames, and the radial weights of each block."""
        species, edge_index, nodes = graph["species"], graph["edge_index"], node_species(graph)
        edges = stack.geometry(graph["edge_vec"], edge_index, species, nodes, edge_inputs(graph))
        features = stack.embedding(species, edge_index, edges, input_features(graph))
        for block in stack.blocks:
            features = block(features, edge_index, edges, nodes)
        prepared = [features, edges.envelope, edges.wigner]
        for block in self._blocks():
            weights = block.attention.radial_weights(edges.scalars)
            if "dropout" in graph:
                weights = weights * graph["dropout"].index_select(0, edge_index[0]).unsqueeze(1)
            prepared.append(weights)
        return prepared

    def forward(
        self, state: Tensor, edge_index: Tensor, prepared: list[Tensor], nodes: Tensor | None = None
    ) -> Tensor:
        """See `FixedPointMap.forward`."""
        features = prepared[0]
        for i, block in enumerate(self._blocks()):
            source = block.attention_norm(state if i == 0 else features)
            features = features + block.attention(source, edge_index, prepared[3 + i], prepared[1], prepared[2], nodes)
            features = features + block.ffn(block.ffn_norm(features))
        return features

    def read(self, stack: Equiformer, state: Tensor) -> Tensor:
        """Normalize the state per atom, so that features depend neither on the batch nor on the size of a system."""
        return stack.norm(state)

    def acts_on_state(self, path: str, module: nn.Module, name: str) -> bool:
        """See `FixedPointMap.acts_on_state`; radial weights read geometry."""
        del name
        return not (isinstance(module, DegreeNorm) or path.endswith("attention.modulate"))

    def _blocks(self) -> list[EquiformerBlock]:
        return [block for block in self.blocks if isinstance(block, EquiformerBlock)]
