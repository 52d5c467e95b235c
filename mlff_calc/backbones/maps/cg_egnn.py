"""The fixed point of layers of `cg_egnn`: f(z; x) = u + D(z).

D is what a layer adds to its input, and reads multivectors divided by the root of one plus their mean square. The state is
[n_atoms, 8, channels].
"""

from __future__ import annotations

from torch import Tensor, nn

from mlff_calc.backbones.base import node_species
from mlff_calc.backbones.cg_egnn import CgEgnn, CliffordBlock
from mlff_calc.backbones.maps.base import FixedPointMap, bounded, pop_last, register_map
from mlff_calc.nn.clifford import MVLinear


@register_map("cg_egnn")
class CgEgnnMap(FixedPointMap[CgEgnn]):
    """Walks over bonds and perceptrons of multivectors; see `FixedPointMap`."""

    stack_class = CgEgnn
    left_out = frozenset({"n_layers", "moves"})
    scaled = ("blocks.0.update.layers.7.scale",)

    def __init__(self, stack: CgEgnn, n_blocks: int) -> None:
        super().__init__(stack, n_blocks)
        self.per_block = 2 * stack.hops

    def taken_from(self, stack: CgEgnn, n_blocks: int) -> list[nn.Module]:
        """See `FixedPointMap.taken_from`."""
        return pop_last(stack.blocks, n_blocks)

    def state_shape(self, stack: CgEgnn) -> tuple[int, int]:
        """Blades and channels of a multivector."""
        return 8, stack.channels

    def hidden(self, stack: CgEgnn) -> int:
        """Number of channels."""
        return stack.channels

    def prepare(self, stack: CgEgnn, graph: dict[str, Tensor]) -> list[Tensor]:
        """Compute u, the radial weights of all hops of the map, and the products with directions."""
        features, bonds = stack.first(graph)
        edge_index, n = graph["edge_index"], self.per_block
        for i, block in enumerate(stack.blocks):
            own = bonds.radial[:, n * i : n * (i + 1)]
            features = block(features, edge_index, own, bonds.turn, node_species(graph))
        radial = bonds.radial[:, n * len(stack.blocks) :]
        if "dropout" in graph:
            radial = radial * graph["dropout"].index_select(0, edge_index[0]).unsqueeze(1)
        return [features.transpose(0, 1).contiguous(), radial, bonds.turn]

    def forward(
        self, state: Tensor, edge_index: Tensor, prepared: list[Tensor], nodes: Tensor | None = None
    ) -> Tensor:
        """See `FixedPointMap.forward`."""
        own, radial, turn = prepared
        result, n = own.transpose(0, 1), self.per_block
        for i, block in enumerate(self._blocks()):
            seen = bounded(state.transpose(0, 1) if i == 0 else result, (0, 2))
            result = result + block.change(seen, edge_index, radial[:, n * i : n * (i + 1)], turn, nodes)
        return result.transpose(0, 1)

    def read(self, stack: CgEgnn, state: Tensor) -> Tensor:
        """Grades 0 and 1, or scalars alone."""
        return state[:, : 1 + 3 * stack.l_max]

    def acts_on_state(self, path: str, module: nn.Module, name: str) -> bool:
        """See `FixedPointMap.acts_on_state`."""
        del path, name
        return isinstance(module, MVLinear)

    def _blocks(self) -> list[CliffordBlock]:
        return [block for block in self.blocks if isinstance(block, CliffordBlock)]
