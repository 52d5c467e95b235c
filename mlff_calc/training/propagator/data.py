"""From samples of motion to batches, without a loop over samples: all tensors are packed once, and rows are picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mlff_calc.datasets.motion import MotionSample
from mlff_calc.graph import to_device
from mlff_calc.graph.keys import Graph, Level, get_key, level_counts
from mlff_calc.propagator import motion_graph

TARGETS = ("positions", "velocities")


class PackedGraphs:
    """Graphs with the same keys, of any sizes, packed end to end.

    Args:
        graphs: At least one.
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self._keys = {name: get_key(name) for name in graphs[0]}
        levels: set[Level] = {key.level for key in self._keys.values()} | {"atom"}
        counts = [level_counts(graph) for graph in graphs]
        self._counts = {level: torch.tensor([count[level] for count in counts]) for level in levels}
        self._starts = {level: count.cumsum(0) - count for level, count in self._counts.items()}
        self._tensors = {
            name: torch.cat([graph[name] for graph in graphs], dim=key.axis) for name, key in self._keys.items()
        }

    def __len__(self) -> int:
        return len(self._counts["atom"])

    def sizes(self, level: Level, chosen: Tensor) -> Tensor:
        """How many atoms, edges or systems the chosen graphs have [n_chosen]."""
        return self._counts[level].index_select(0, chosen)

    def rows(self, level: Level, chosen: Tensor) -> Tensor:
        """Where the atoms, edges or systems of the chosen graphs stand, graph by graph."""
        sizes = self.sizes(level, chosen)
        ends = sizes.cumsum(0)
        shifts = self._starts[level].index_select(0, chosen) - (ends - sizes)
        return torch.arange(int(ends[-1])) + torch.repeat_interleave(shifts, sizes)

    def take(self, chosen: Tensor) -> Graph:
        """The chosen graphs as one, as `collate` would give it.

        Args:
            chosen: Numbers of graphs, at least one.
        """
        rows = {level: self.rows(level, chosen) for level in self._counts}
        batch: Graph = {}
        for name, key in self._keys.items():
            part = self._tensors[name].index_select(key.axis, rows[key.level])
            if key.points_to is not None:
                sizes = self.sizes(key.points_to, chosen)
                part = part + torch.repeat_interleave(sizes.cumsum(0) - sizes, self.sizes(key.level, chosen))
            batch[name] = part
        return batch


@dataclass(frozen=True)
class MotionBatch:
    """Some samples as one graph, with what is to be predicted.

    Attributes:
        graph: What `motion_graph` gives.
        targets: `positions` and `velocities` [n_atoms, 3] at the later time; NaN where a sample lacks velocities.
        n_atoms: Particles per system [n_systems].
        frames: Numbers of the samples within their part of the data.
    """

    graph: Graph
    targets: dict[str, Tensor]
    n_atoms: Tensor
    frames: list[int]

    def to(self, device: torch.device) -> MotionBatch:
        """The same batch on a device."""
        if self.n_atoms.device == device:
            return self
        targets = to_device(self.targets, device, non_blocking=True)
        graph = to_device(self.graph, device, non_blocking=True)
        return MotionBatch(graph, targets, self.n_atoms.to(device, non_blocking=True), self.frames)


class MotionPairs:
    """The graphs and targets of a part of the data, made once.

    Args:
        samples: At least one.

    Raises:
        StructureError: A sample cannot be a graph; names it.
    """

    def __init__(self, samples: Sequence[MotionSample]) -> None:
        self._graphs = PackedGraphs([motion_graph(sample) for sample in samples])
        self._targets = {
            "positions": torch.from_numpy(np.concatenate([sample.target_positions for sample in samples])).double(),
            "velocities": torch.from_numpy(np.concatenate([_target_velocities(sample) for sample in samples])).double(),
        }

    def __len__(self) -> int:
        return len(self._graphs)

    def batch(self, frames: list[int]) -> MotionBatch:
        """The named samples as one batch."""
        chosen = torch.tensor(frames)
        rows = self._graphs.rows("atom", chosen)
        targets = {name: target.index_select(0, rows) for name, target in self._targets.items()}
        return MotionBatch(self._graphs.take(chosen), targets, self._graphs.sizes("atom", chosen), frames)


def _target_velocities(sample: MotionSample) -> np.ndarray:
    if sample.target_velocities is not None:
        return sample.target_velocities
    return np.full(np.shape(sample.target_positions), np.nan)
