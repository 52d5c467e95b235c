"""Heads for one number of a structure, such as a gap or an adsorption energy, in standard units.

Scalars of atoms are mapped by a layer and averaged over the atoms of a structure. The head `scalar` gives a number,
`distribution` a mixture of histograms (nn/histogram.py). What the standard units mean is the network's
(properties/standard.py): size, references and scale of the property.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.graph.keys import DOUBLE, declare
from mlff_calc.heads.base import Features, Head, register_head
from mlff_calc.nn.histogram import (
    LAYOUTS,
    centres_of,
    cross_entropies,
    edges_of,
    expectation,
    guards_of,
    outside,
    soft_targets,
)
from mlff_calc.nn.mixture import Mixture
from mlff_calc.nn.scatter import scatter_sum

STANDARD_VALUE: Final = declare("standard_value", "system", (), DOUBLE, "", "predicted property in standard units")
BIN_LOGITS: Final = declare("bin_logits", "system", (None, None), None, "", "logits of bins of the histograms [K, B]")
BIN_SHARES: Final = declare("bin_shares", "system", (None,), DOUBLE, "", "shares of the histograms in their mixture [K]")
LEAST_INNER, MOST_BINS = 8, 4096  # smallest number of bins beside the guards, largest number of bins
RARE = 1e-5  # smallest initial probability of a bin; a larger one makes untrained error bars longer
RATIOS = (0.5, 4.0)  # smallest and largest width of a soft target, in widths of bins; below, expectations are quantised


class _Pooled(nn.Module):
    """Mean over the atoms of each structure of a layer of their scalars [n_systems, channels].

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:
        values = nn.functional.silu(self.hidden(graph["node_features"][:, 0].to(self.hidden.weight.dtype)))
        index, n_systems = graph["system_index"], graph["cell"].shape[0]
        counts = scatter_sum(torch.ones_like(values[:, :1]), index, n_systems).clamp(min=1.0)
        return scatter_sum(values, index, n_systems) / counts


@register_head("scalar")
class ScalarHead(Head):
    """Adds `standard_value` [n_systems] (float64).

    Args:
        features: Features of the network.
    """

    provides = (STANDARD_VALUE,)

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.pooled = _Pooled(features.channels)
        self.last = nn.Linear(features.channels, 1)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with `standard_value`."""
        return {**graph, "standard_value": self.last(self.pooled(graph)).squeeze(-1).double()}


@register_head("distribution")
class DistributionHead(Head):
    """Adds `bin_logits` [n_systems, K, B], `bin_shares` [n_systems, K] and their mean `standard_value` [n_systems].

    Args:
        features: Features of the network.
        bins: Number of bins of each histogram, with guard bins on either side of the labels.
        layouts: Layouts of bins, one histogram each; by default all of `LAYOUTS`.
        width: Width of soft targets, in units of the local width of bins.
        gate: Whether shares of the histograms depend on the structure; else they are equal.

    Raises:
        RecipeError: An option is out of range.
    """

    provides = (STANDARD_VALUE, BIN_LOGITS, BIN_SHARES)
    edges: Tensor

    def __init__(
        self,
        features: Features,
        bins: int = 64,
        layouts: list[str] | None = None,
        width: float = 0.75,
        gate: bool = False,
    ) -> None:
        super().__init__()
        self.layouts = list(LAYOUTS if layouts is None else layouts)
        unknown = [one for one in self.layouts if one not in LAYOUTS]
        if unknown or not self.layouts or len(set(self.layouts)) < len(self.layouts):
            known = ", ".join(LAYOUTS)
            raise RecipeError(f"layouts of head 'distribution' are {self.layouts}; give some of {known}, each once")
        if not RATIOS[0] <= width <= RATIOS[1]:
            least, most = RATIOS
            raise RecipeError(f"width of head 'distribution' is {width:g}; give a number from {least:g} to {most:g}")
        self.bins, self.width, self.guards = bins, width, guards_of(width)
        fewest = 2 * self.guards + LEAST_INNER
        if not fewest <= bins <= MOST_BINS:
            raise RecipeError(
                f"bins of head 'distribution' are {bins}; give {fewest} to {MOST_BINS}, of which {2 * self.guards} are "
                f"guards at a width of {width:g}"
            )
        channels = features.channels
        self.pooled = _Pooled(channels)
        self.mixed = nn.Linear(channels, channels)
        self.last = nn.Linear(channels, len(self.layouts) * bins)
        self.gate = nn.Linear(channels, len(self.layouts)) if gate else None
        self.register_buffer("edges", torch.linspace(-4.0, 4.0, bins + 1, dtype=torch.float64).repeat(len(self.layouts), 1))

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with `bin_logits`, `bin_shares` and `standard_value`."""
        pooled = self.pooled(graph)
        hidden = nn.functional.silu(self.mixed(pooled))
        logits = self.last(hidden).reshape(-1, len(self.layouts), self.bins)
        if self.gate is None:
            shares = torch.full(logits.shape[:2], 1.0 / len(self.layouts), dtype=torch.float64, device=logits.device)
        else:
            shares = torch.softmax(self.gate(hidden).double(), dim=-1)
        mean = expectation(logits, centres_of(self.edges), shares)
        return {**graph, "bin_logits": logits, "bin_shares": shares, "standard_value": mean}

    def measure(self, labels: Tensor) -> None:
        """Lay the bins by training labels [n] in standard units, and begin at the distribution of these labels.

        Bins that hold no label would otherwise lose their share only in thousands of steps, and make error bars too long.

        Raises:
            DatasetError: The bins of a layout are wider than the labels are spread; the message names it and the cure.
        """
        labels = labels.double()
        edges = torch.stack([edges_of(layout, labels, self.bins, self.guards) for layout in self.layouts])
        quartiles = torch.quantile(labels, torch.tensor([0.25, 0.75], dtype=torch.float64))
        spread = float(quartiles.diff()) / 1.349 or float(labels.std())  # of a normal distribution, its deviation
        for layout, own in zip(self.layouts, edges, strict=True):
            inner = own[self.guards : self.bins + 1 - self.guards].diff()
            usual = float(inner.median())
            if usual > spread:
                raise DatasetError(
                    f"the {layout} bins of head 'distribution' are {usual / spread:.3g} times as wide as most labels are "
                    f"spread, since a few labels lie {float(labels.abs().max()):.3g} standard units away; look at these "
                    f"labels, leave the layout {layout} out, or raise bins (now {self.bins})"
                )
        self.edges.copy_(edges)
        shares = self.targets(labels).mean(dim=0)
        with torch.no_grad():
            self.last.bias.copy_(shares.clamp(min=RARE).log().flatten())

    def outside(self, labels: Tensor) -> Tensor:
        """Whether labels [n] in standard units lie outside of the bins of a layout [n]."""
        return torch.stack([outside(labels, own) for own in self.edges]).any(dim=0)

    def targets(self, labels: Tensor) -> Tensor:
        """Soft targets [n, K, B] of labels [n] in standard units; labels outside of the bins count as their ends."""
        return torch.stack(
            [soft_targets(labels.clamp(own[0], own[-1]), own, self.width, centred=True) for own in self.edges], dim=1
        )

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over the histograms of cross entropies above those of the targets themselves [n]."""
        targets = self.targets(labels)
        own = -torch.special.xlogy(targets, targets).sum(dim=-1)
        return (cross_entropies(logits, targets) - own).mean(dim=1)

    def mixture(self, outputs: dict[str, Tensor], temperature: float = 1.0) -> Mixture:
        """Distributions in standard units of the outputs of this head."""
        logits = outputs["bin_logits"]
        return Mixture.of_logits(logits, outputs["bin_shares"], self.edges.to(logits.device), temperature)


def normal_log_density(labels: Tensor, mean: Tensor, deviation: float) -> Tensor:
    """Logarithm of the density of a normal distribution [n]."""
    return -0.5 * ((labels - mean) / deviation).square() - math.log(deviation * math.sqrt(2.0 * math.pi))
