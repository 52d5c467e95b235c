"""The contract of a backbone, and the registry that configurations name backbones from."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from torch import Tensor, nn

from mlff_calc.backbones.keys import NODE_SPECIES
from mlff_calc.registry import Registry


class Backbone(nn.Module):
    """Network that maps a graph to node features.

    A subclass takes its options, including the number of species, as keyword arguments. It defines `forward(graph) ->
    graph`, which adds `node_features` [n_atoms, (l_max+1)^2, channels] (fewer components after `limit_outputs`). It
    reads `species`, `edge_index` and `edge_vec`, and sends messages only to `edge_index[0]`. Before features of
    neighbours are looked up by `edge_index[1]`, they pass through `nn.exchange.exchange` with the result of
    `node_species`.

    Attributes:
        cutoff: cutoff radius (Angstrom).
        l_max: highest degree of the features.
        channels: number of channels per component.
        n_layers: number of message-passing layers.
        first_hops: number of times that neighbours are read before the first layer.
        is_fixed_point: whether the features solve z = f(z, x).
        layers_name: name of the list of its layers, in their order; their weights are fine-tuned and frozen layer by layer.
        after_layers: names of parameters and modules that act after the last layer, or in it and others.
        exchange_width: largest count of numbers per atom in one call of `nn.exchange.exchange`.
    """

    cutoff: float
    l_max: int
    channels: int
    n_layers: int
    exchange_width: int
    first_hops: int = 0
    is_fixed_point: bool = False
    layers_name: ClassVar[str] = "blocks"
    after_layers: ClassVar[tuple[str, ...]] = ()

    @property
    def depth(self) -> int:
        """Number of cutoffs within which other atoms act on the features of an atom."""
        return int(self.n_layers) + self.first_hops

    @property
    def n_levels(self) -> int:
        """Number of layers with weights of their own."""
        try:
            return len(list(self.get_submodule(self.layers_name).children()))
        except AttributeError:  # of another package, without layers of that name
            return 0

    def layer_of(self, name: str) -> int:
        """Number of the layer, from 1, that a parameter belongs to: 0 for what acts before, the last for what acts after."""
        found = re.match(rf"{re.escape(self.layers_name)}\.(\d+)\.", name)
        if found:
            return int(found[1]) + 1
        return self.n_levels if name.partition(".")[0] in self.after_layers else 0

    def limit_outputs(self, l_max: int) -> None:
        """Announce that heads read no degree above `l_max`; the backbone may leave such degrees out of `node_features`.

        Weights are not changed. Those that only the omitted degrees need then have no gradient.
        """

    def set_double_geometry(self, double: bool) -> None:
        """Compute the geometry in float64 (precision `mixed`); backbones without such a part ignore this."""


def node_species(graph: dict[str, Tensor]) -> Tensor | None:
    """Return the species [n_nodes] of an engine's own atoms and its ghosts; None where one process owns all atoms."""
    return graph.get(NODE_SPECIES)


LARGEST: dict[str, float] = {
    "channels": 4096, "attention_channels": 4096, "ffn_channels": 16384, "edge_channels": 4096, "heads": 256,
    "steerable_channels": 256, "n_basis": 1024, "n_layers": 64, "n_blocks": 64, "prelude": 64, "hops": 16, "l_max": 16,
    "m_max": 16, "envelope_exponent": 64, "cutoff": 1e4, "avg_num_neighbors": 1e6, "history": 1000,
    "max_evaluations": 100_000, "training_evaluations": 100_000, "phantom_steps": 1000,
}  # fmt: skip
"""Largest value of options with these names in any backbone: widths, counts, lengths (in Angstrom for potentials, in the
unit of the data for propagators). Networks trained in practice stay far below; the limits catch typing errors."""
MAX_WORK = 4e7
"""Largest size of a network as measured by `_not_too_large`, about 1e7 (hegnn) to 6e8 (cg_egnn) weights."""


def _not_too_large(name: str, sizes: dict[str, Any]) -> dict[str, str]:
    """Refuse sizes that are too large in combination; the measure is roughly proportional to the number of weights."""
    widths = [float(sizes.get(key) or 0) for key in ("channels", "attention_channels", "ffn_channels", "edge_channels")]
    own = (sizes.get("n_blocks") or 1) + (sizes.get("prelude") or 0)
    layers = (sizes.get("n_layers") or 1) * own * (sizes.get("hops") or 1)
    degrees, copies = (sizes.get("l_max") or 0) + 1, sizes.get("steerable_channels") or 1
    total = sum(widths) + (sizes.get("n_basis") or 0)
    work = float(layers * degrees**2 * (total**2 / 4.0 + copies**2))
    if work <= MAX_WORK:
        return {}
    return {
        "channels": f"the sizes of backbone {name!r} together are too large ({work:.1e}, and {MAX_WORK:.0e} is the limit); "
        "lower channels (or attention_channels, ffn_channels, edge_channels), l_max or n_layers"
    }


BACKBONES: Registry[Backbone] = Registry(
    "backbone", "n_species", default="equiformer", largest=LARGEST, check=_not_too_large
)
register_backbone = BACKBONES.register
available_backbones = BACKBONES.names
backbone_class = BACKBONES.part
backbone_options = BACKBONES.options
option_findings = BACKBONES.findings
resolve_backbone = BACKBONES.resolve
build_backbone = BACKBONES.build


def is_fixed_point(name: str) -> bool:
    """Whether the features of a registered backbone are a fixed point."""
    return backbone_class(name).is_fixed_point
