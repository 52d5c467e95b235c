"""Regression by histograms: layouts of bins, soft targets, and the loss of a distribution over bins.

A label y becomes a distribution over bins: a normal distribution about y, cut at the edges. Its width is `ratio` times the
local width of the bins: it is normal in the coordinate u that counts bins, in which the edges are 0, 1, ..., B:

    q_b(y) = [Phi((b + 1 - u) / ratio) - Phi((b - u) / ratio)] / mass inside

With equal bins of width w and u = (y - e_0) / w, this is the usual soft target of width s = ratio * w, whose expectation is
y up to 5e-6 w from a ratio of 0.75 on. With other bins the coordinate is shifted until the expectation is y (`centred`).
Everything here is computed in float64, apart from the logits.

Source: Imani and White, "Improving regression performance with distributional losses" (2018), for the soft target; Shoghi et
al., "Distribution learning for molecular regression", arXiv 2407.20475, for several layouts of bins and the term on
expectations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlff_calc.errors import OptionError

ITERATIONS = 8
"""Number of steps that shift a soft target to its label, by Newton's method within brackets; a larger number is slower."""
LEAST = 1e-3
"""Smallest width of an inner bin in units of the mean width; raising it makes bins of equal labels wider."""


def guards_of(ratio: float) -> int:
    """Number of guard bins on either side of the labels: three widths of a soft target, at least three."""
    return max(3, math.ceil(3.0 * ratio))


def uniform_edges(low: float, high: float, bins: int, guards: int) -> Tensor:
    """Edges of equal bins [bins + 1].

    Args:
        low: Smallest label.
        high: Largest label.
        bins: Number of bins, the guards among them.
        guards: Number of guard bins on either side.
    """
    return _with_guards(torch.linspace(low, high, bins - 2 * guards + 1, dtype=torch.float64), guards)


def quantile_edges(labels: Tensor, bins: int, guards: int) -> Tensor:
    """Edges of bins that hold equal numbers of labels [bins + 1]; other arguments as for `uniform_edges`.

    Args:
        labels: Labels [n].
        bins: Number of bins, the guards among them.
        guards: Number of guard bins on either side.
    """
    inner = bins - 2 * guards
    shares = torch.linspace(0, 1, inner + 1, dtype=torch.float64)
    return _with_guards(_rising(torch.quantile(labels.double(), shares)), guards)


def normal_edges(labels: Tensor, bins: int, guards: int) -> Tensor:
    """Edges of bins of equal mass under the normal distribution with mean and deviation of the labels [bins + 1].

    The outer ones reach the smallest and the largest label. Arguments are those of `quantile_edges`.
    """
    labels, inner = labels.double(), bins - 2 * guards
    shares = torch.linspace(0, 1, inner + 1, dtype=torch.float64)[1:-1]
    within = labels.mean() + labels.std() * math.sqrt(2.0) * torch.erfinv(2.0 * shares - 1.0)
    ends = torch.stack([torch.minimum(labels.min(), within[0]), torch.maximum(labels.max(), within[-1])])
    return _with_guards(_rising(torch.cat([ends[:1], within, ends[1:]])), guards)


LAYOUTS = ("uniform", "quantile", "normal")
"""Names of layouts of bins."""


def edges_of(layout: str, labels: Tensor, bins: int, guards: int) -> Tensor:
    """Edges of bins of a layout, measured on labels [bins + 1].

    Args:
        layout: One of `LAYOUTS`.
        labels: Labels [n], which differ.
        bins: Number of bins, the guards among them.
        guards: Number of guard bins on either side.
    """
    if layout == "uniform":
        return uniform_edges(float(labels.min()), float(labels.max()), bins, guards)
    return (quantile_edges if layout == "quantile" else normal_edges)(labels, bins, guards)


def _rising(edges: Tensor) -> Tensor:
    """Edges with bins of at least `LEAST` mean widths."""
    inner = len(edges) - 1
    steps = torch.arange(inner + 1, dtype=torch.float64) * (LEAST * (edges[-1] - edges[0]) / inner)
    return (edges - steps).cummax(0).values + steps


def _with_guards(edges: Tensor, guards: int) -> Tensor:
    """Edges with further bins on either side, of the width of the outer bin, and at least of the mean width."""
    mean = (edges[-1] - edges[0]) / (len(edges) - 1)
    steps = torch.arange(1, guards + 1, dtype=torch.float64)
    below = edges[0] - steps.flip(0) * torch.maximum(edges[1] - edges[0], mean)
    above = edges[-1] + steps * torch.maximum(edges[-1] - edges[-2], mean)
    return torch.cat([below, edges, above])


def centres_of(edges: Tensor) -> Tensor:
    """Centres of bins [..., B] with edges [..., B + 1]."""
    return 0.5 * (edges[..., 1:] + edges[..., :-1])


def outside(labels: Tensor, edges: Tensor) -> Tensor:
    """Whether labels [n] lie outside of the bins with edges [B + 1], or are not finite [n]."""
    return ~((labels >= edges[0]) & (labels <= edges[-1]))


def coordinates(labels: Tensor, edges: Tensor) -> Tensor:
    """Coordinate of labels [n] that counts bins, from 0 at the first edge to B at the last, linear within bins [n]."""
    index = (torch.searchsorted(edges, labels, right=True) - 1).clamp(0, len(edges) - 2)
    return index + (labels - edges[index]) / (edges[index + 1] - edges[index])


def soft_targets(labels: Tensor, edges: Tensor, ratio: float = 0.75, *, centred: bool = False) -> Tensor:
    """Soft targets of labels.

    Args:
        labels: Labels [n].
        edges: Edges of bins [B + 1].
        ratio: Width of a soft target in units of the local width of bins, above 0.
        centred: Whether the coordinate is shifted until the expectation of a target is its label.

    Returns:
        Probabilities of bins [n, B], float64.

    Raises:
        OptionError: A label lies outside of the bins, or is NaN.
    """
    labels, edges = labels.double(), edges.double()
    bad = outside(labels, edges)
    if bool(bad.any()):
        raise OptionError(
            f"{int(bad.sum())} of {len(labels)} labels lie outside of the bins from {float(edges[0]):.6g} to "
            f"{float(edges[-1]):.6g}, such as {float(labels[bad][0]):.6g}; leave them out, or make bins that hold them"
        )
    u = coordinates(labels, edges)
    return _masses(_shifted(u, labels, edges, ratio) if centred else u, len(edges) - 1, ratio)[0]


def _masses(u: Tensor, bins: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Probabilities of bins [n, B] of targets at the coordinates u [n], and their derivatives by u."""
    z = (torch.arange(bins + 1, dtype=u.dtype, device=u.device) - u.unsqueeze(1)) / ratio
    below, slopes = torch.special.ndtr(z), torch.exp(-0.5 * z.square()) / (-ratio * math.sqrt(2.0 * math.pi))
    whole, change = below[:, -1:] - below[:, :1], slopes[:, -1:] - slopes[:, :1]
    masses = below.diff(dim=1) / whole
    return masses, (slopes.diff(dim=1) - masses * change) / whole


def _shifted(u: Tensor, labels: Tensor, edges: Tensor, ratio: float) -> Tensor:
    """Coordinates [n] at which the expectation of a target is its label; it rises with the coordinate."""
    centres, bins = centres_of(edges), len(edges) - 1
    low, high = torch.zeros_like(u), torch.full_like(u, bins)
    for _ in range(ITERATIONS):
        masses, slopes = _masses(u, bins, ratio)
        error = masses @ centres - labels
        low, high = torch.where(error < 0.0, u, low), torch.where(error < 0.0, high, u)
        step = u - error / (slopes @ centres)
        u = torch.where((step >= low) & (step <= high), step, 0.5 * (low + high))
    return u


def cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of each head [n, K].

    Its gradient in the logits is p - q, whose norm is at most the root of 2 whatever the error.

    Args:
        logits: Logits of bins [n, K, B].
        targets: Soft targets [n, K, B].
    """
    return -(targets.to(logits.dtype) * torch.log_softmax(logits, dim=-1)).sum(dim=-1)


def expectation(logits: Tensor, centres: Tensor, shares: Tensor) -> Tensor:
    """Mean of a mixture of histograms [n], float64.

    Args:
        logits: Logits of bins [n, K, B].
        centres: Centres of bins [K, B].
        shares: Shares of the heads [n, K].
    """
    means = (torch.softmax(logits.double(), dim=-1) * centres).sum(dim=-1)
    return (shares.double() * means).sum(dim=-1)
