"""A one-layer `hegnn` restricted to some of its degrees, trained to distinguish structures from rotated copies.

The probe sums scalars and steerable features over a structure. A linear map of these sums gives two logits, for label 0 (the
structure) and label 1 (the copy). EGNN has no steerable features, so the displacements of its points, which are vectors, are
summed instead. There is one network per seed, each with a different rotation; all seeds are trained in parallel.

If the logits of a structure and its copy agree within `TIE`, the network cannot distinguish them, and the sign of the
remaining difference is only rounding. Both then count as the same class, so that exactly one of the two is classified
correctly, which is 50 %. Features and weights are float64: Adam divides gradients by their size, so with float32 it would
eventually amplify rounding noise into a difference.

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

from mlff_calc.backbones.hegnn import HIGHEST_L_MAX, Hegnn
from mlff_calc.backbones.hegnn_layer import SteerableEdges
from mlff_calc.bench.studies.symmetric_graphs import SymmetricGraph
from mlff_calc.errors import OptionError
from mlff_calc.nn.scatter import scatter_sum

TIE = 1e-5
"""Difference of logits below which two structures count as indistinguishable. A larger value makes more ties."""
CUTOFF = 4.0
"""Cutoff of the network. It must exceed all edges of a noisy structure of radius 1; a larger value changes little."""
DECIDED = 0.1
"""Cross entropy of all graphs below which training ends early. A larger value ends it earlier."""


@dataclass(frozen=True)
class DegreeRow:
    """Degrees of a probe: a single degree, or all degrees up to one. Degree 0 is EGNN, which only displaces points.

    Attributes:
        degree: Highest degree.
        only: Whether this degree is the only one; otherwise all degrees from 1 up to it are included.

    Raises:
        OptionError: The degree is out of range.
    """

    degree: int
    only: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.degree <= HIGHEST_L_MAX:
            msg = f"degree {self.degree} is out of range; give 0 (EGNN) to {HIGHEST_L_MAX}"
            raise OptionError(msg)

    def __str__(self) -> str:
        """Return the label used in tables."""
        if self.degree == 0:
            return "EGNN"
        return f"l = {self.degree}" if self.only else f"l <= {self.degree}"

    @property
    def degrees(self) -> range:
        """Degrees above zero that the probe sums over a structure."""
        highest = max(1, self.degree)
        return range(highest if self.only else 1, highest + 1)


class DegreeProbe(nn.Module):
    """Network that computes logits of graphs from sums over a one-layer `hegnn`, whose lower degrees may be masked.

    Args:
        row: Degrees of the probe.
        channels: Number of channels of the scalars.
        mean_neighbors: Mean number of edges per point.
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
        """Return logits [n_graphs, 2] and sums [n_graphs, channels + width] of a batch with masked `edges`."""
        backbone, species, edge_index = self.backbone, graph["species"], graph["edge_index"]
        scalars, steerable = backbone.species(species), backbone.start(species, edge_index, edges, None)
        if backbone.centre:
            steerable = steerable + self.masked(backbone.from_centre(graph))
        scalars, steerable, moves = backbone.layers[0](scalars, steerable, edge_index, edges, None)
        directed = moves if backbone.moves else steerable[:, : len(self.mask)]
        pooled = scatter_sum(torch.cat([scalars, directed], dim=1), graph["system_index"], len(graph["cell"]))
        return self.readout(pooled), pooled

    def masked(self, steerable: Tensor) -> Tensor:
        """Return features [n, width or more] with masked degrees, and padding columns beyond the width, set to zero."""
        return steerable * nn.functional.pad(self.mask, [0, steerable.shape[1] - len(self.mask)])


class Batch(NamedTuple):
    """Pairs of graphs for all seeds.

    Attributes:
        graph: Graph whose `positions` and `edge_vec` [n_seeds, n, 3] depend on the seed; other entries are shared.
        n_graphs: Number of graphs per seed, two per pair.
    """

    graph: dict[str, Tensor]
    n_graphs: int


@dataclass(frozen=True)
class Judgement:
    """Results of the probes of a row on pairs.

    Attributes:
        accuracies: Fractions of graphs classified correctly, one per seed; ties are counted as described above.
        gaps: Smallest and largest difference between the logits of a structure and its copy, over all seeds.
        pooled: Smallest and largest length of the summed features, for each of the degrees 1, 2, ...
        steps: Number of training steps.
    """

    accuracies: list[float]
    gaps: tuple[float, float]
    pooled: list[tuple[float, float]]
    steps: int


class SeededProbes:
    """Probes of one row, one per seed, with stacked weights that are evaluated in parallel.

    Args:
        row: Degrees of the probes.
        channels: Number of channels of the scalars.
        mean_neighbors: Mean number of edges per point.
        seeds: Seeds, one per probe.
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
            flat = self.probe.backbone.edges(edge_vec.flatten(0, 1))  # has no weights, so all seeds share this module
            flat = flat._replace(harmonics=self.probe.masked(flat.harmonics))
            edges = SteerableEdges(*[part.unflatten(0, edge_vec.shape[:2]) for part in flat])
        axes = {name: 0 if name in ("positions", "edge_vec") else None for name in graph}
        evaluate: Callable[..., tuple[Tensor, Tensor]] = vmap(self._one, in_dims=(0, axes, 0))
        return evaluate(self.weights, graph, edges)

    def _one(
        self, weights: dict[str, Tensor], graph: dict[str, Tensor], edges: SteerableEdges
    ) -> tuple[Tensor, Tensor]:
        """Return logits and sums of one seed."""
        found: tuple[Tensor, Tensor] = functional_call(self.probe, weights, (graph, edges))
        return found

    def train(self, batches: Iterator[Batch], steps: int, rate: float, *, until_decided: bool) -> int:
        """Minimize the cross entropy by Adam with one batch per step, and return the number of steps.

        With `until_decided` the training ends once the cross entropy of every graph of every seed is below `DECIDED`. A row
        that cannot distinguish the structures never ends early.
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
        """Evaluate the probes on pairs; `steps` is the number of training steps, for the record."""
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
    """Return labels [n_seeds * n_graphs], alternately 0 for a structure and 1 for its copy."""
    return torch.arange(logits.shape[0] * logits.shape[1]) % 2


def random_rotations(seeds: list[int]) -> Tensor:
    """Return a uniformly distributed rotation for every seed, [n_seeds, 3, 3] float64."""
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
    """Make pairs of a structure and its copy, which is rotated by the rotation of the seed.

    Args:
        structure: Points and edges.
        rotations: Rotations of the seeds, [n_seeds, 3, 3].
        noise: Standard deviation of the noise of each coordinate, in units of the mean distance of the points from their
            centre. Structure and copy of a pair share the same noise.
        n_pairs: Number of pairs per seed.
        generator: Random numbers of the noise.
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
