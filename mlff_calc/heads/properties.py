"""Heads for one number of a structure, such as a gap or an adsorption energy, in standard units.

Scalars of atoms are mapped by a layer and averaged over the atoms of a structure. The head `scalar` gives a number,
`distribution` a mixture of histograms (nn/histogram.py). What the standard units mean is the network's
(properties/standard.py): size, references and scale of the property.
"""

from __future__ import annotations

import math
from typing import Final

from torch import Tensor, nn

from mlff_calc.graph.keys import DOUBLE, declare
from mlff_calc.heads.base import Features, Head, register_head
from mlff_calc.heads.histograms import HistogramHead, PooledScalars
from mlff_calc.nn.histogram import LAYOUTS, centres_of, expectation
from mlff_calc.nn.mixture import Mixture

STANDARD_VALUE: Final = declare("standard_value", "system", (), DOUBLE, "", "predicted property in standard units")
BIN_LOGITS: Final = declare("bin_logits", "system", (None, None), None, "", "logits of bins of the histograms [K, B]")
BIN_SHARES: Final = declare("bin_shares", "system", (None,), DOUBLE, "", "shares of the histograms in their mixture [K]")


@register_head("scalar")
class ScalarHead(Head):
    """Adds `standard_value` [n_systems] (float64).

    Args:
        features: Features of the network.
    """

    provides = (STANDARD_VALUE,)

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.pooled = PooledScalars(features.channels)
        self.last = nn.Linear(features.channels, 1)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with `standard_value`."""
        return {**graph, "standard_value": self.last(self.pooled(graph)).squeeze(-1).double()}


@register_head("distribution")
class DistributionHead(HistogramHead):
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

    title = "distribution"
    provides = (STANDARD_VALUE, BIN_LOGITS, BIN_SHARES)

    def __init__(
        self,
        features: Features,
        bins: int = 64,
        layouts: list[str] | None = None,
        width: float = 0.75,
        gate: bool = False,
    ) -> None:
        channels = features.channels
        super().__init__(PooledScalars(channels), channels, bins, LAYOUTS if layouts is None else layouts, width, gate=gate)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with `bin_logits`, `bin_shares` and `standard_value`."""
        logits, shares = self.logits_of(graph)
        mean = expectation(logits, centres_of(self.edges), shares)
        return {**graph, "bin_logits": logits, "bin_shares": shares, "standard_value": mean}

    def mixture(self, outputs: dict[str, Tensor], temperature: float = 1.0) -> Mixture:
        """Distributions in standard units of the outputs of this head."""
        return self.mixture_of(outputs["bin_logits"], outputs["bin_shares"], temperature)


def normal_log_density(labels: Tensor, mean: Tensor, deviation: float) -> Tensor:
    """Logarithm of the density of a normal distribution [n]."""
    return -0.5 * ((labels - mean) / deviation).square() - math.log(deviation * math.sqrt(2.0 * math.pi))
