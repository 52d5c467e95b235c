"""Distributions of one number as mixtures of histograms: density, quantiles and measures of uncertainty.

Within a bin the density is constant, so that the distribution function is linear between the edges of all histograms, which
are the common grid. All tensors are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mlff_calc.nn.histogram import centres_of

FLOOR = 1e-12
"""Smallest probability that logarithms see; raising it hides how improbable a label is."""


@dataclass(frozen=True)
class Mixture:
    """Mixtures of K histograms, one for each of n numbers.

    Attributes:
        probabilities: Probabilities of bins [n, K, B].
        shares: Shares of the histograms [n, K].
        edges: Edges of their bins [K, B + 1].
    """

    probabilities: Tensor
    shares: Tensor
    edges: Tensor

    @classmethod
    def of_logits(cls, logits: Tensor, shares: Tensor, edges: Tensor, temperature: float = 1.0) -> Mixture:
        """Distributions with logits [n, K, B] over a temperature, which makes them wider above 1."""
        return cls(torch.softmax(logits.double() / temperature, dim=-1), shares.double(), edges.double())

    @cached_property
    def grid(self) -> Tensor:
        """Edges of the common grid [G + 1]."""
        return torch.unique(self.edges)

    @cached_property
    def of_heads(self) -> Tensor:
        """Probabilities of the cells of the common grid by each histogram [n, K, G]."""
        sums = torch.nn.functional.pad(self.probabilities.cumsum(dim=-1), (1, 0))
        found = []
        for edges, below in zip(self.edges, sums.unbind(1), strict=True):
            index = (torch.searchsorted(edges, self.grid, right=True) - 1).clamp(0, len(edges) - 2)
            part = ((self.grid - edges[index]) / (edges[index + 1] - edges[index])).clamp(0.0, 1.0)
            at = below[:, index] + part * (below[:, index + 1] - below[:, index])
            found.append(at.diff(dim=1))
        return torch.stack(found, dim=1)

    @cached_property
    def masses(self) -> Tensor:
        """Probabilities of the cells of the common grid [n, G]."""
        return (self.shares.unsqueeze(-1) * self.of_heads).sum(dim=1)

    @cached_property
    def mean(self) -> Tensor:
        """Means [n]."""
        return (self.shares * (self.probabilities * centres_of(self.edges)).sum(dim=-1)).sum(dim=-1)

    @property
    def variance(self) -> Tensor:
        """Variances sum p (c - mean)^2 over the centres of bins [n]."""
        squares = (centres_of(self.edges) - self.mean[:, None, None]).square()
        return (self.shares * (self.probabilities * squares).sum(dim=-1)).sum(dim=-1)

    def quantiles(self, levels: Tensor) -> Tensor:
        """Quantiles [n, m] at levels [m] between 0 and 1."""
        below = torch.nn.functional.pad(self.masses.cumsum(dim=1), (1, 0))
        below = below / below[:, -1:]
        wanted = levels.to(below).expand(len(below), -1).contiguous()
        index = (torch.searchsorted(below, wanted) - 1).clamp(0, below.shape[1] - 2)
        low, high = below.gather(1, index), below.gather(1, index + 1)
        part = ((wanted - low) / (high - low).clamp(min=FLOOR)).clamp(0.0, 1.0)
        return self.grid[index] + part * (self.grid[index + 1] - self.grid[index])

    def below(self, labels: Tensor) -> Tensor:
        """Probabilities of numbers below labels [n]."""
        index = (torch.searchsorted(self.grid, labels.contiguous(), right=True) - 1).clamp(0, len(self.grid) - 2)
        part = ((labels - self.grid[index]) / (self.grid[index + 1] - self.grid[index])).clamp(0.0, 1.0)
        masses = self.masses.gather(1, index.unsqueeze(1)).squeeze(1)
        return (self.masses.cumsum(dim=1).gather(1, index.unsqueeze(1)).squeeze(1) - (1.0 - part) * masses).clamp(0.0, 1.0)

    def log_density(self, labels: Tensor) -> Tensor:
        """Logarithms of the density at labels [n]; labels outside of all bins get that of `FLOOR` in the nearest cell."""
        index = (torch.searchsorted(self.grid, labels.contiguous(), right=True) - 1).clamp(0, len(self.grid) - 2)
        inside = (labels >= self.grid[0]) & (labels <= self.grid[-1])
        masses = self.masses.gather(1, index.unsqueeze(1)).squeeze(1)
        masses = torch.where(inside, masses, torch.zeros_like(masses)).clamp(min=FLOOR)
        return masses.log() - self.grid.diff()[index].log()

    @property
    def entropy(self) -> Tensor:
        """Differential entropies of the mixtures [n]; the width of bins does not enter."""
        return -(self.masses * ((self.masses.clamp(min=FLOOR)).log() - self.grid.diff().log())).sum(dim=1)

    @property
    def disagreement(self) -> Tensor:
        """Mean divergence of the histograms from their mixture [n], 0 where they agree."""
        ratio = self.of_heads.clamp(min=FLOOR).log() - self.masses.clamp(min=FLOOR).log().unsqueeze(1)
        return (self.shares * (self.of_heads * ratio).sum(dim=-1)).sum(dim=-1)


def best_temperature(loss: Callable[[float], float], low: float = 0.1, high: float = 10.0, steps: int = 40) -> float:
    """Temperature between `low` and `high` with the smallest loss, by golden sections of its logarithm.

    Args:
        loss: Function of the temperature with one minimum.
        low: Smallest temperature.
        high: Largest temperature.
        steps: Number of sections; each narrows the range to 0.62 of itself.
    """
    golden = 0.5 * (math.sqrt(5.0) - 1.0)
    a, b = math.log(low), math.log(high)
    c, d = b - golden * (b - a), a + golden * (b - a)
    at_c, at_d = loss(math.exp(c)), loss(math.exp(d))
    for _ in range(steps):
        if at_c < at_d:
            b, d, at_d = d, c, at_c
            c = b - golden * (b - a)
            at_c = loss(math.exp(c))
        else:
            a, c, at_c = c, d, at_d
            d = a + golden * (b - a)
            at_d = loss(math.exp(d))
    return math.exp(0.5 * (a + b))
