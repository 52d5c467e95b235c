"""What heads of distributions share: layers from scalars to logits of bins, the bins, and their soft targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.heads.base import Head
from mlff_calc.nn.histogram import LAYOUTS, cross_entropies, edges_of, guards_of, outside, soft_targets
from mlff_calc.nn.mixture import Mixture
from mlff_calc.nn.scatter import scatter_sum

LEAST_INNER, MOST_BINS = 8, 4096  # smallest number of bins beside the guards, largest number of bins
RARE = 1e-5  # smallest initial probability of a bin; a larger one makes untrained error bars longer
RATIOS = (0.5, 4.0)  # smallest and largest width of a soft target, in widths of bins; below, expectations are quantised


class AtomScalars(nn.Module):
    """A layer of the scalars of each atom [n_atoms, channels].

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:
        """Map the scalars of `node_features`."""
        return nn.functional.silu(self.hidden(graph["node_features"][:, 0].to(self.hidden.weight.dtype)))


class PooledScalars(AtomScalars):
    """Mean over the atoms of each structure of a layer of their scalars [n_systems, channels].

    Only atoms that are `owned` count, where a graph tells them.
    """

    def forward(self, graph: dict[str, Tensor]) -> Tensor:
        """Pool the scalars of `node_features`."""
        values = super().forward(graph)
        index, n_systems = graph["system_index"], graph["cell"].shape[0]
        count = torch.ones_like(values[:, :1])
        if "owned" in graph:
            count = graph["owned"].to(values.dtype).unsqueeze(1)
            values = values * count
        return scatter_sum(values, index, n_systems) / scatter_sum(count, index, n_systems).clamp(min=1.0)


class HistogramHead(Head):
    """Base of heads that give mixtures of histograms.

    Args:
        pooled: Module from a graph with `node_features` to scalars [n, channels], for each of the n distributions.
        channels: Number of scalars.
        bins: Number of bins of each histogram, the guards among them.
        layouts: Layouts of bins, one histogram each.
        width: Width of soft targets, in units of the local width of bins.
        gate: Whether shares of the histograms depend on the scalars; else they are equal.

    Attributes:
        title: Name of the head in messages.

    Raises:
        RecipeError: An option is out of range.
    """

    title: ClassVar[str]
    edges: Tensor

    def __init__(
        self, pooled: nn.Module, channels: int, bins: int, layouts: Sequence[str], width: float, *, gate: bool = False
    ) -> None:
        super().__init__()
        self.layouts = list(layouts)
        unknown = [one for one in self.layouts if one not in LAYOUTS]
        if unknown or not self.layouts or len(set(self.layouts)) < len(self.layouts):
            known = ", ".join(LAYOUTS)
            raise RecipeError(f"layouts of head {self.title!r} are {self.layouts}; give some of {known}, each once")
        if not RATIOS[0] <= width <= RATIOS[1]:
            least, most = RATIOS
            raise RecipeError(f"width of head {self.title!r} is {width:g}; give a number from {least:g} to {most:g}")
        self.bins, self.width, self.guards = bins, width, guards_of(width)
        fewest = 2 * self.guards + LEAST_INNER
        if not fewest <= bins <= MOST_BINS:
            raise RecipeError(
                f"bins of head {self.title!r} are {bins}; give {fewest} to {MOST_BINS}, of which {2 * self.guards} are "
                f"guards at a width of {width:g}"
            )
        self.pooled = pooled
        self.mixed = nn.Linear(channels, channels)
        self.last = nn.Linear(channels, len(self.layouts) * bins)
        self.gate = nn.Linear(channels, len(self.layouts)) if gate else None
        self.register_buffer("edges", torch.linspace(-4.0, 4.0, bins + 1, dtype=torch.float64).repeat(len(self.layouts), 1))

    def logits_of(self, graph: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of bins [n, K, B] and shares of the histograms [n, K]."""
        hidden = nn.functional.silu(self.mixed(self.pooled(graph)))
        logits = self.last(hidden).reshape(-1, len(self.layouts), self.bins)
        if self.gate is None:
            shares = torch.full(logits.shape[:2], 1.0 / len(self.layouts), dtype=torch.float64, device=logits.device)
        else:
            shares = torch.softmax(self.gate(hidden).double(), dim=-1)
        return logits, shares

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
                    f"the {layout} bins of head {self.title!r} are {usual / spread:.3g} times as wide as most labels are "
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

    def mixture_of(self, logits: Tensor, shares: Tensor, temperature: float = 1.0) -> Mixture:
        """Distributions in standard units with logits [n, K, B] and shares [n, K]."""
        return Mixture.of_logits(logits, shares, self.edges.to(logits.device), temperature)
