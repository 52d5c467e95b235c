"""The contract of a backbone, and the registry through which configurations name one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mlff_calc.backbones.keys import NODE_SPECIES
from mlff_calc.registry import Registry


class Backbone(nn.Module):
    """Graph to node features.

    A subclass takes its options as keyword arguments, the number of species among them, and defines
    `forward(graph) -> graph`, which adds `node_features` [n_atoms, (l_max+1)^2, channels] (fewer components after
    `limit_outputs`). It reads `species`, `edge_index` and `edge_vec`, and sends messages to `edge_index[0]` only. Features
    of neighbours go through `nn.exchange.exchange` with what `node_species` gives, before they are looked up by
    `edge_index[1]`.

    Attributes:
        cutoff: Angstrom. l_max: highest degree. channels: per component. n_layers: message-passing layers.
        is_fixed_point: whether the features solve z = f(z, x).
        exchange_width: numbers per atom that the largest call of `nn.exchange.exchange` carries.
    """

    cutoff: float
    l_max: int
    channels: int
    n_layers: int
    exchange_width: int
    is_fixed_point: bool = False

    def limit_outputs(self, l_max: int) -> None:
        """Be told that heads read no degree above `l_max`: a backbone may leave them out of `node_features`.

        Weights stay as they are; those that only such degrees need have no gradient then.
        """

    def set_double_geometry(self, double: bool) -> None:
        """Compute what depends on geometry only in float64 (precision `mixed`); without such a part, nothing changes."""


def node_species(graph: dict[str, Tensor]) -> Tensor | None:
    """Species [n_nodes] of an engine's own atoms and its ghosts; None where one process holds all atoms."""
    return graph.get(NODE_SPECIES)


LARGEST: dict[str, float] = {
    "channels": 4096, "attention_channels": 4096, "ffn_channels": 16384, "edge_channels": 4096, "heads": 256,
    "steerable_channels": 256, "n_basis": 1024, "n_layers": 64, "n_blocks": 64, "hops": 16, "l_max": 16, "m_max": 16,
    "envelope_exponent": 64, "cutoff": 1e4, "avg_num_neighbors": 1e6, "history": 1000, "max_evaluations": 100_000,
    "training_evaluations": 100_000, "phantom_steps": 1000,
}  # fmt: skip
"""The most that an option of these names may be, in any backbone: a width, a count or a length (lengths are in Angstrom in
potentials, and in the unit of the data in propagators). What is trained in practice stays far below."""
MAX_WORK = 4e7
"""Largest size of a network, as `_not_too_large` measures it: some 1e7 weights (hegnn) to 6e8 (cg_egnn)."""


def _not_too_large(name: str, sizes: dict[str, Any]) -> dict[str, str]:
    """Refuse sizes that are too large together: layers, each with maps between all widths; weights go in proportion."""
    widths = [float(sizes.get(key) or 0) for key in ("channels", "attention_channels", "ffn_channels", "edge_channels")]
    layers = (sizes.get("n_layers") or 1) * (sizes.get("n_blocks") or 1) * (sizes.get("hops") or 1)
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
