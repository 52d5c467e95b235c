"""The distribution of a property that a network predicts, in the units of the label, with calibrated intervals.

A `distribution` head gives a mixture of histograms, wider or narrower by one temperature. A `scalar` head gives one number;
its distribution is normal, with the deviation of the errors on the validation frames. The mean is always that of temperature
1, which the training minimizes. Intervals are then widened (or narrowed) by one number for each level, in standard units, so
that they cover that share of validation labels: split conformal prediction.

Source: Romano, Patterson, Candes, "Conformalized quantile regression" (2019), for quantiles; Vovk, Gammerman, Shafer,
"Algorithmic learning in a random world" (2005), for residuals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_calc.heads.properties import normal_log_density
from mlff_calc.nn.mixture import Mixture

LEVELS = (0.5, 0.9, 0.95)
"""Shares of labels that intervals should cover."""


@dataclass(frozen=True)
class Predictive:
    """Distributions of n labels; `base + spread * t` turns the standard units t of mean and mixture into those of the label.

    Attributes:
        centre: Means in standard units [n].
        base: Parts that composition tells [n].
        spread: Factors of standard units [n].
        deviation: Standard deviation in standard units, where there is no mixture.
        mixture: Distributions in standard units; None for normal ones.
        widening: Conformal widening of the intervals of `LEVELS`, in standard units [3].
    """

    centre: Tensor
    base: Tensor
    spread: Tensor
    deviation: float
    mixture: Mixture | None
    widening: Tensor

    @property
    def mean(self) -> Tensor:
        """Predictions [n]."""
        return self.base + self.spread * self.centre

    @property
    def std(self) -> Tensor:
        """Standard deviations [n]."""
        if self.mixture is None:
            return self.spread * self.deviation
        return self.spread * self.mixture.variance.sqrt()

    def standard(self, labels: Tensor) -> Tensor:
        """Labels [n] in standard units."""
        return (labels - self.base) / self.spread

    def raw_quantiles(self, levels: Tensor) -> Tensor:
        """Quantiles in standard units [n, m] before the conformal widening, at levels [m]."""
        if self.mixture is not None:
            return self.mixture.quantiles(levels)
        return self.centre.unsqueeze(1) + self.deviation * math.sqrt(2.0) * torch.erfinv(2.0 * levels.double() - 1.0)

    def intervals(self) -> Tensor:
        """Lower and upper ends of the central intervals of `LEVELS` [n, 3, 2], after the widening."""
        shares = torch.tensor(LEVELS, dtype=torch.float64)
        low = self.raw_quantiles(0.5 - 0.5 * shares) - self.widening
        high = self.raw_quantiles(0.5 + 0.5 * shares) + self.widening
        middle = self.raw_quantiles(torch.tensor([0.5], dtype=torch.float64))
        low, high = torch.minimum(low, middle).cummin(dim=1).values, torch.maximum(high, middle).cummax(dim=1).values
        return self.base[:, None, None] + self.spread[:, None, None] * torch.stack([low, high], dim=-1)

    def quantiles(self) -> dict[float, Tensor]:
        """Quantiles [n] by level, from the ends of `intervals` and the median."""
        ends = self.intervals()
        middle = self.raw_quantiles(torch.tensor([0.5], dtype=torch.float64))[:, 0]
        found = {0.5: self.base + self.spread * middle}
        for column, share in enumerate(LEVELS):
            found[round(0.5 - 0.5 * share, 4)] = ends[:, column, 0]
            found[round(0.5 + 0.5 * share, 4)] = ends[:, column, 1]
        return dict(sorted(found.items()))

    def log_density(self, labels: Tensor) -> Tensor:
        """Logarithms of the density at labels [n], per unit of the label."""
        t = self.standard(labels)
        if self.mixture is None:
            return normal_log_density(t, self.centre, self.deviation) - self.spread.log()
        return self.mixture.log_density(t) - self.spread.log()

    def below(self, labels: Tensor) -> Tensor:
        """Predicted probabilities of values below labels [n], uniform where the distributions are right."""
        t = self.standard(labels)
        if self.mixture is None:
            return torch.special.ndtr((t - self.centre) / self.deviation)
        return self.mixture.below(t)


def conformal_widening(predictive: Predictive, labels: Tensor) -> Tensor:
    """Widening of the intervals of `LEVELS` [3] in standard units that covers the right share of labels [n].

    The interval of a level is widened by the score of rank ceil((n + 1) level) of how far labels lie outside of it (negative
    where inside). For new labels of the same kind it then holds at least that share on average, if n is large enough for
    such a rank; where it is not, the largest score is taken.

    Args:
        predictive: Distributions, whose own widening is ignored.
        labels: Labels [n], none of them trained on.
    """
    t, n = predictive.standard(labels), len(labels)
    found = []
    for share in LEVELS:
        ends = predictive.raw_quantiles(torch.tensor([0.5 - 0.5 * share, 0.5 + 0.5 * share], dtype=torch.float64))
        scores = torch.maximum(ends[:, 0] - t, t - ends[:, 1]).sort().values
        found.append(scores[min(math.ceil((n + 1) * share), n) - 1])
    return torch.stack(found)
