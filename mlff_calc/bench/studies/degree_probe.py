"""A one-layer `hegnn` that is left some of its degrees, and its training to tell structures from rotated copies.

The probe sums scalars and steerable features over a structure, and a linear map of the sums gives two logits: label 0, the
structure; label 1, the copy. EGNN has no steerable features; of it the moves of the points are summed, which are vectors.
One network per seed, with a rotation of its own; all seeds are trained side by side.

A tie: where the logits of a structure and of its copy agree within `TIE`, the network sees no difference between them, and
what rounding makes of the sign of a vanishing margin is no answer. Both then count as the same class, so that exactly one of
the two is right: 50 %. Features and weights are float64, since Adam divides small gradients by their size and would in time
turn the rounding noise of float32 into an answer.

| symbol | name in code | shape |
|---|---|---|
| h, v summed over a structure | `pooled` | [n_seeds, n_graphs, channels + width] |
| logits | `logits` | [n_seeds, n_graphs, 2] |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from mlff_calc.backbones.hegnn import HIGHEST_L_MAX, Hegnn, SteerableEdges
from mlff_calc.bench.studies.symmetric_graphs import SymmetricGraph
from mlff_calc.errors import OptionError
from mlff_calc.nn.scatter import scatter_sum

TIE = 1e-5
"""Logits nearer than this are the same answer."""
CUTOFF = 4.0
"""Longer than every edge of a noisy structure of radius 1."""
DECIDED = 0.1
"""Training ends early where every graph is told right with a smaller cross entropy than this."""


@dataclass(frozen=True)
class DegreeRow:
    """Which degrees a probe has: one degree, or all up to one; 0 is EGNN, whose only directions are the moves of points.

    Raises:
        OptionError: a degree out of range.
    """

    degree: int
    only: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.degree <= HIGHEST_L_MAX:
            msg = f"degree {self.degree} is out of range; give 0 (EGNN) to {HIGHEST_L_MAX}"
            raise OptionError(msg)

    def __str__(self) -> str:
        """As in the tables."""
        if self.degree == 0:
            return "EGNN"
        return f"l = {self.degree}" if self.only else f"l <= {self.degree}"

    @property
    def degrees(self) -> range:
        """Degrees above zero that the probe sums up."""
        highest = max(1, self.degree)
        return range(highest if self.only else 1, highest + 1)


class DegreeProbe(nn.Module):
    """Logits of graphs from sums over a one-layer `hegnn` whose lower degrees may be zeroed from the start on.

    Args:
        row: the degrees it has.
        channels: of its scalars.
        mean_neighbors: mean number of edges per point.
    """

    mask: Tensor

    def __init__(self, row: DegreeRow, channels: int, mean_neighbors: float) -> None:
        super().__init__()
        self.backbone = Hegnn(
            n_species=1, cutoff=CUTOFF, l_max=row.degree, channels=channels, n_layers=1, centre=row.degree > 0,
            moves=row.degree == 0, avg_num_neighbors=mean_neighbors,
        )  # fmt: skip
        mask = torch.ones((row.degree + 1) ** 2 - 1)
        mask[: row.degrees[0] ** 2 - 1] = 0.0
        self.register_buffer("mask", mask, persistent=False)
        self.readout = nn.Linear(channels + (row.degrees[-1] + 1) ** 2 - 1, 2)

    def forward(self, graph: dict[str, Tensor], edges: SteerableEdges) -> tuple[Tensor, Tensor]:
        """Return logits [n_graphs, 2] and sums [n_graphs, channels + width] of a batch; `edges` are masked already."""
        backbone, species, edge_index = self.backbone, graph["species"], graph["edge_index"]
        scalars, steerable = backbone.species(species), backbone.start(species, edge_index, edges, None)
        if backbone.centre:
            steerable = steerable + self.masked(backbone.from_centre(graph))
        scalars, steerable, moves = backbone.layers[0](scalars, steerable, edge_index, edges, None)
        directed = moves if backbone.moves else steerable[:, : len(self.mask)]
        pooled = scatter_sum(torch.cat([scalars, directed], dim=1), graph["system_index"], len(graph["cell"]))
        return self.readout(pooled), pooled

    def masked(self, steerable: Tensor) -> Tensor:
        """Features [n, width or more] without the degrees that are left out, nor columns beyond the width that fill up."""
        return steerable * nn.functional.pad(self.mask, [0, steerable.shape[1] - len(self.mask)])


class Batch(NamedTuple):
    """Pairs of graphs of every seed: `graph` with `positions` and `edge_vec` [n_seeds, n, 3], all else shared; n_graphs."""

    graph: dict[str, Tensor]
    n_graphs: int


@dataclass(frozen=True)
class Judgement:
    """What the probes of a row make of pairs.

    Attributes:
        accuracies: [n_seeds], share of the graphs told right, ties by the rule above.
        gaps: differences between the logits of a structure and of its copy, the smallest and largest of all seeds.
        pooled: lengths of the summed features of degrees 1, 2, ..., the smallest and largest of each.
        steps: of training.
    """

    accuracies: list[float]
    gaps: tuple[float, float]
    pooled: list[tuple[float, float]]
    steps: int


class SeededProbes:
    """Probes of one row with a seed each, whose weights are stacked and evaluated side by side.

    Args:
        row: the degrees. channels: of scalars. mean_neighbors: mean number of edges per point. seeds: one per probe.
    """

    def __init__(self, row: DegreeRow, channels: int, mean_neighbors: float, seeds: list[int]) -> None:
        self.row, self.channels = row, channels
        probes = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                probes.append(DegreeProbe(row, channels, mean_neighbors).double())
        self.probe = probes[0]
        self.weights = {
            name: weight.detach().requires_grad_() for name, weight in stack_module_state(probes)[0].items()
        }

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits [n_seeds, n_graphs, 2] and sums [n_seeds, n_graphs, channels + width]."""
        graph = batch.graph
        edge_vec = graph["edge_vec"]
        with torch.no_grad():
            flat = self.probe.backbone.edges(edge_vec.flatten(0, 1))  # has no weights: the same network for all seeds
            flat = flat._replace(harmonics=self.probe.masked(flat.harmonics))
            edges = SteerableEdges(*[part.unflatten(0, edge_vec.shape[:2]) for part in flat])
        axes = {name: 0 if name in ("positions", "edge_vec") else None for name in graph}
        evaluate: Callable[..., tuple[Tensor, Tensor]] = vmap(self._one, in_dims=(0, axes, 0))
        return evaluate(self.weights, graph, edges)

    def _one(
        self, weights: dict[str, Tensor], graph: dict[str, Tensor], edges: SteerableEdges
    ) -> tuple[Tensor, Tensor]:
        """Logits and sums of one seed."""
        found: tuple[Tensor, Tensor] = functional_call(self.probe, weights, (graph, edges))
        return found

    def train(self, batches: Iterator[Batch], steps: int, rate: float, *, until_decided: bool) -> int:
        """Minimize the cross entropy by Adam, a batch per step; return the number of steps.

        With `until_decided` it ends where every graph of every seed is told right and clearly. A row that cannot tell never
        ends early.
        """
        optimizer = torch.optim.Adam(list(self.weights.values()), lr=rate)
        for step in range(steps):
            logits, _ = self(next(batches))
            losses = nn.functional.cross_entropy(logits.flatten(0, 1), _labels(logits), reduction="none")
            if until_decided and float(losses.detach().max()) < DECIDED:
                return step
            optimizer.zero_grad()
            (losses.sum() / logits.shape[1]).backward()
            optimizer.step()
        return steps

    @torch.no_grad()
    def judge(self, batch: Batch, steps: int) -> Judgement:
        """Accuracies, logit gaps and summed features on pairs."""
        logits, pooled = self(batch)
        pairs = logits.unflatten(1, (-1, 2))  # [n_seeds, n_pairs, 2 graphs, 2 classes]
        gaps = (pairs[:, :, 0] - pairs[:, :, 1]).abs().amax(dim=2)
        margins = pairs[..., 1] - pairs[..., 0]
        right = ((margins[..., 0] <= 0.0).double() + (margins[..., 1] > 0.0).double()) / 2.0
        right = torch.where(gaps <= TIE, 0.5, right)
        steerable = pooled[..., self.channels :]
        lengths = [steerable[..., l * l - 1 : l * l + 2 * l].norm(dim=-1) for l in range(1, self.row.degrees[-1] + 1)]  # noqa: E741
        ranges = [(float(length.min()), float(length.max())) for length in lengths]
        return Judgement(right.mean(dim=1).tolist(), (float(gaps.min()), float(gaps.max())), ranges, steps)


def _labels(logits: Tensor) -> Tensor:
    """0 for a structure and 1 for its copy, in turn [n_seeds * n_graphs]."""
    return torch.arange(logits.shape[0] * logits.shape[1]) % 2


def random_rotations(seeds: list[int]) -> Tensor:
    """A rotation drawn evenly for every seed [n_seeds, 3, 3] float64."""
    draws = [torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    w, x, y, z = torch.nn.functional.normalize(torch.stack(draws), dim=1).unbind(dim=1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], dim=1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], dim=1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], dim=1),
    ]
    return torch.stack(rows, dim=1)


def pairs_of(
    structure: SymmetricGraph,
    rotations: Tensor,
    *,
    noise: float = 0.0,
    n_pairs: int = 1,
    generator: torch.Generator | None = None,
) -> Batch:
    """Pairs of a structure and its copy, turned by the rotation of the seed.

    Args:
        structure: points and edges.
        rotations: [n_seeds, 3, 3].
        noise: standard deviation of what is added to every coordinate, in mean distances of the points from their centre;
            one draw per pair, shared by the structure and its copy.
        n_pairs: of every seed.
        generator: of the noise.
    """
    n_seeds, n, n_graphs = len(rotations), len(structure.positions), 2 * n_pairs
    radius = float((structure.positions - structure.positions.mean(dim=0)).norm(dim=1).mean())
    points = structure.positions.expand(n_seeds, n_pairs, n, 3)
    if noise > 0.0:
        drawn = torch.randn(points.shape, dtype=torch.float64, generator=generator)
        points = points + noise * radius * drawn
    copies = torch.einsum("sab,spnb->spna", rotations, points)
    positions = torch.stack([points, copies], dim=2).reshape(n_seeds, n_graphs * n, 3)
    shifts = n * torch.arange(n_graphs).repeat_interleave(structure.edge_index.shape[1])
    edge_index = structure.edge_index.repeat(1, n_graphs) + shifts
    graph = {
        "positions": positions,
        "edge_vec": positions[:, edge_index[1]] - positions[:, edge_index[0]],
        "edge_index": edge_index,
        "species": torch.zeros(n_graphs * n, dtype=torch.int64),
        "system_index": torch.arange(n_graphs).repeat_interleave(n),
        "cell": torch.zeros(n_graphs, 3, 3, dtype=torch.float64),
        "pbc": torch.zeros(n_graphs, 3, dtype=torch.bool),
    }
    return Batch(graph, n_graphs)
