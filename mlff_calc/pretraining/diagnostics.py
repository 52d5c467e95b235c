"""What a code is worth: how steeply it changes with positions, and what a linear map can read from it.

The steepness of a code g at a structure x is the largest singular value of J = dg/dx. Power iterations u <- J^T J u find it
for all structures of a batch at once: J^T v is a gradient, and J u the gradient of J^T v by v, which is linear in v and
therefore recorded only once. A network could make it small by making g small, so it is also given in units of the spread
of g over a set of structures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_calc.graph.keys import Graph
from mlff_calc.nn.scatter import scatter_sum
from mlff_calc.pretraining.noise import displaced

ITERATIONS = 15
RIDGES = tuple(10.0**k for k in range(-5, 4))
"""Penalties of the probe, relative to the number of structures, of which the best is taken."""


def steepness(
    code: Callable[[Graph], Tensor], graph: Graph, generator: torch.Generator, iterations: int = ITERATIONS
) -> Tensor:
    """Largest singular values of dg/dx of each system [n_systems], per Angstrom.

    Args:
        code: Function from a graph to codes [n_systems, width], each of its own system alone, twice differentiable.
        graph: Graph of any number of systems.
        generator: Source of the first directions, on the device of the graph.
        iterations: Number of power iterations; the result rises with it to the exact value.
    """
    index, n_systems = graph["system_index"], graph["cell"].shape[0]
    with torch.enable_grad():
        shifts = torch.zeros_like(graph["positions"]).requires_grad_()
        found = code(displaced(graph, shifts)).double()
        probe = torch.ones_like(found).requires_grad_()
        (back,) = torch.autograd.grad(found, shifts, probe, create_graph=True)
    direction = torch.randn(shifts.shape, generator=generator, device=shifts.device, dtype=torch.float64)
    largest = torch.zeros(n_systems, dtype=torch.float64, device=shifts.device)
    for _ in range(iterations):
        norms = scatter_sum(direction.square().sum(dim=1), index, n_systems).sqrt().clamp(min=1e-300)
        direction = direction / norms.index_select(0, index).unsqueeze(1)
        (ahead,) = torch.autograd.grad(back, probe, direction, retain_graph=True)
        largest = torch.linalg.vector_norm(ahead, dim=1)
        (direction,) = torch.autograd.grad(found, shifts, ahead, retain_graph=True)
    return largest


def spread(codes: Tensor) -> float:
    """Root of the summed variance of codes [n, width] over a set."""
    return float(codes.double().var(dim=0, correction=0).sum().sqrt())


@dataclass(frozen=True)
class Steepness:
    """Steepness of a code over a set of structures.

    Attributes:
        median: Median of the largest singular values, per Angstrom.
        high: Their 95th percentile, per Angstrom.
        relative_median: Median in units of the spread of the codes over the set, per Angstrom.
        relative_high: 95th percentile in the same units, per Angstrom.
    """

    median: float
    high: float
    relative_median: float
    relative_high: float

    @classmethod
    def of(cls, values: Tensor, codes: Tensor) -> Steepness:
        """Summarize largest singular values [n] of codes [n, width]; relative ones are NaN where all codes are equal."""
        size = spread(codes)
        median, high = float(values.quantile(0.5)), float(values.quantile(0.95))
        same = not size > 1e-12 * max(1.0, float(codes.abs().max()))
        return cls(median, high, *((float("nan"),) * 2 if same else (median / size, high / size)))


def probe_score(features: Tensor, labels: Tensor) -> float:
    """Share of the variance of labels that a linear map of frozen features explains.

    Each structure is predicted by the ridge regression of all others, which has a closed form; the penalty is the best of
    `RIDGES`. The share is 1 for a perfect map, 0 for the mean, and negative for worse.

    Args:
        features: [n, width], n at least 3.
        labels: [n], not all equal.
    """
    x, y = features.double(), labels.double()
    x = (x - x.mean(dim=0)) / x.std(dim=0, correction=0).clamp(min=1e-9)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    n = len(y)
    total, own = (y - y.mean()).square().sum(), u.T @ (y - y.mean())
    best = float("-inf")
    for ridge in RIDGES:
        shrunk = s.square() / (s.square() + ridge * n)
        leverage = 1.0 / n + (u.square() * shrunk).sum(dim=1)
        left = (y - y.mean() - u @ (shrunk * own)) / (1.0 - leverage).clamp(min=1e-9)
        best = max(best, float(1.0 - left.square().sum() / total))
    return best


def radius_of_gyration(graph: Graph) -> Tensor:
    """Root mean square distance of the atoms of each system from their centre [n_systems], Angstrom; for molecules."""
    index, n_systems, positions = graph["system_index"], graph["cell"].shape[0], graph["positions"]
    sizes = torch.bincount(index, minlength=n_systems).clamp(min=1).unsqueeze(1)
    centre = scatter_sum(positions, index, n_systems) / sizes
    arms = positions - centre.index_select(0, index)
    return (scatter_sum(arms.square().sum(dim=1, keepdim=True), index, n_systems) / sizes).squeeze(1).sqrt()
