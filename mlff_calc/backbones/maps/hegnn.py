"""The fixed point of layers of `hegnn`: f(z; x) = u + D(z).

D is what a layer adds to its input, and reads scalars divided by the root of one plus their mean square. Steerable
features are bounded by the layer itself. The state is [n_atoms, 1, channels + wide], the scalars of an atom followed by
its steerable features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.backbones.base import node_species
from mlff_calc.backbones.hegnn import Hegnn
from mlff_calc.backbones.hegnn_layer import HegnnLayer, SteerableEdges
from mlff_calc.backbones.maps.base import FixedPointMap, bounded, pop_last, register_map


@register_map("hegnn")
class HegnnMap(FixedPointMap[Hegnn]):
    """Layers of scalar messages and steerable features; see `FixedPointMap`."""

    stack_class = Hegnn
    left_out = frozenset({"n_layers", "centre", "moves"})
    scaled = ("blocks.0.update.2.weight", "blocks.0.gate_weight")

    def __init__(self, stack: Hegnn, n_blocks: int) -> None:
        super().__init__(stack, n_blocks)
        self.sizes = [stack.channels, stack.degrees.wide]
        self.n_geometry = 3 if stack.l_max > 0 else 2

    def taken_from(self, stack: Hegnn, n_blocks: int) -> list[nn.Module]:
        """See `FixedPointMap.taken_from`."""
        return pop_last(stack.layers, n_blocks)

    def state_shape(self, stack: Hegnn) -> tuple[int, int]:
        """One row of scalars and steerable features."""
        return 1, stack.channels + stack.degrees.wide

    def hidden(self, stack: Hegnn) -> int:
        """Number of channels of messages."""
        return stack.channels

    def prepare(self, stack: Hegnn, graph: dict[str, Tensor]) -> list[Tensor]:
        """Compute u, the radial basis, the weights of edges, their harmonics, and factors of dropout if there are some."""
        edges, scalars, steerable = stack.first(graph)
        for layer in stack.layers:
            scalars, steerable, _ = layer(scalars, steerable, graph["edge_index"], edges, node_species(graph))
        geometry = [edges.basis, edges.weight, edges.harmonics][: self.n_geometry]
        dropout = [graph["dropout"]] if "dropout" in graph else []
        return [torch.cat([scalars, steerable], dim=1).unsqueeze(1), *geometry, *dropout]

    def forward(
        self, state: Tensor, edge_index: Tensor, prepared: list[Tensor], nodes: Tensor | None = None
    ) -> Tensor:
        """See `FixedPointMap.forward`."""
        own, basis, weight, *rest = prepared
        nothing = basis[:, :0]
        harmonics = rest.pop(0) if self.n_geometry > 2 else nothing
        edges, kept = SteerableEdges(basis, weight, harmonics, rays=nothing), rest[0] if rest else None
        scalars, steerable = torch.split(state[:, 0], self.sizes, dim=1)
        result = own[:, 0]
        for i, block in enumerate(self._blocks()):
            if i > 0:
                scalars, steerable = torch.split(result, self.sizes, dim=1)
            changes = block.changes(bounded(scalars, 1), steerable, edge_index, edges, nodes, kept=kept)
            turned = torch.zeros_like(steerable) if changes.steerable is None else changes.steerable
            result = result + torch.cat([changes.scalars, turned], dim=1)
        return result.unsqueeze(1)

    def read(self, stack: Hegnn, state: Tensor) -> Tensor:
        """Join scalars and degrees."""
        scalars, steerable = torch.split(state[:, 0], self.sizes, dim=1)
        return stack.features(scalars, steerable)

    def acts_on_state(self, path: str, module: nn.Module, name: str) -> bool:
        """See `FixedPointMap.acts_on_state`."""
        del path, module, name
        return True

    def limit_outputs(self, stack: Hegnn, l_max: int) -> None:
        """Leave degrees above `l_max` out of what is read; the state keeps them."""
        stack.read_l_max = min(l_max, stack.l_max)

    def _blocks(self) -> list[HegnnLayer]:
        return [block for block in self.blocks if isinstance(block, HegnnLayer)]
