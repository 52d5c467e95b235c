"""Batches from graphs in memory: every key is concatenated once, and the rows of a batch are picked from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mlff_calc.graph.keys import Graph, Key, Level, get_key, level_counts
from mlff_calc.training.data import Batch

FEW = 32
"""Largest number of graphs that are joined part by part. For more graphs rows are picked, at a cost per row instead of per
graph. The best value depends on the machine; it changes only the speed."""


class _Packed:
    """One key of all graphs, concatenated.

    Args:
        key: Declaration of the key.
        whole: Tensors of all graphs, joined along the key's axis.
        sizes: Number of rows of each graph.
    """

    def __init__(self, key: Key, whole: Tensor, sizes: list[int]) -> None:
        self.key, self.whole, self.sizes = key, whole, sizes
        self.parts = whole.split(sizes, dim=key.axis)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Packed, (self.key, self.whole, self.sizes)  # avoids sending thousands of views to other processes

    def take(self, chosen: _Chosen) -> Tensor:
        if chosen.few:
            return torch.cat([self.parts[index] for index in chosen.frames], dim=self.key.axis)
        return self.whole.index_select(self.key.axis, chosen.rows(self.key.level))


class _Chosen:
    """The graphs of a batch: their numbers of atoms, edges and systems, and the places of these.

    Args:
        counts: Numbers of atoms, edges and systems of all graphs.
        frames: Numbers of the chosen graphs.
    """

    def __init__(self, counts: Mapping[Level, Tensor], frames: Sequence[int]) -> None:
        self.counts, self.frames = counts, list(frames)
        self.few = len(self.frames) <= FEW
        self._index = torch.tensor(self.frames)
        self._sizes: dict[Level, Tensor] = {}
        self._rows: dict[Level, Tensor] = {}

    def sizes(self, level: Level) -> Tensor:
        """Numbers of atoms, edges or systems of each graph [n_frames]."""
        if level not in self._sizes:
            self._sizes[level] = self.counts[level].index_select(0, self._index)
        return self._sizes[level]

    def rows(self, level: Level) -> Tensor:
        """Places of the atoms, edges or systems in the packed tensors."""
        if level not in self._rows:
            counts, sizes = self.counts[level], self.sizes(level)
            ends = sizes.cumsum(0)
            shifts = (counts.cumsum(0) - counts).index_select(0, self._index) - (ends - sizes)
            self._rows[level] = torch.arange(int(ends[-1])) + torch.repeat_interleave(shifts, sizes)
        return self._rows[level]

    def shifts(self, key: Key, points_to: Level) -> Tensor:
        """Offsets to add to the index of each graph, so that it counts through the batch."""
        counts = self.sizes(points_to)
        return torch.repeat_interleave(counts.cumsum(0) - counts, self.sizes(key.level))


class PackedGraphs:
    """Graphs of any sizes with the same keys.

    Args:
        graphs: At least one graph.
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        counts = [level_counts(graph) for graph in graphs]
        self._counts: dict[Level, Tensor] = {level: torch.tensor([one[level] for one in counts]) for level in counts[0]}
        self._tensors = {name: self.packed(name, [graph[name] for graph in graphs]) for name in graphs[0]}

    def __len__(self) -> int:
        return len(self._counts["atom"])

    def packed(self, name: str, tensors: Sequence[Tensor]) -> _Packed:
        """Concatenate a key of these graphs, which may be a label."""
        key = get_key(name)
        return _Packed(key, torch.cat(list(tensors), dim=key.axis), self._counts[key.level].tolist())

    def total(self, level: Level) -> int:
        """Number of atoms, edges or systems of all graphs together."""
        return int(self._counts[level].sum())

    def chosen(self, frames: Sequence[int]) -> _Chosen:
        """Choose some graphs, at least one, by their numbers."""
        return _Chosen(self._counts, frames)

    def take(self, chosen: _Chosen) -> Graph:
        """Join the chosen graphs to one, with the result of `collate`."""
        batch: Graph = {}
        for name, packed in self._tensors.items():
            part, key = packed.take(chosen), packed.key
            batch[name] = part if key.points_to is None else part + chosen.shifts(key, key.points_to)
        return batch


class PackedFrames:
    """Source of batches whose graphs and labels are all in memory.

    Args:
        graphs: At least one graph, all with the same keys.
        labels: Labels of each graph by registered key, all with the same keys; NaN where a graph lacks one.
        weights: Weights of each graph in the terms of the loss, by label; None where all are 1.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        labels: Sequence[Mapping[str, Tensor]],
        weights: Sequence[Mapping[Any, float]] | None = None,
    ) -> None:
        self.graphs = PackedGraphs(graphs)
        self.labels = {name: self.graphs.packed(name, [one[name] for one in labels]) for name in labels[0]}
        self.weights = weights

    def __len__(self) -> int:
        return len(self.graphs)

    def batch(self, frames: Sequence[int], epoch: int = 0, generator: torch.Generator | None = None) -> Batch:
        """Return the given frames as one batch, the same in every epoch."""
        del epoch, generator
        chosen = self.graphs.chosen(frames)
        n_atoms = chosen.sizes("atom")
        labels = {name: packed.take(chosen) for name, packed in self.labels.items()}
        weights = None if self.weights is None else weights_of([self.weights[index] for index in frames], n_atoms)
        return Batch(self.graphs.take(chosen), labels, n_atoms, chosen.frames, weights)


def weights_of(weights: Sequence[Mapping[Any, float]], n_atoms: Tensor) -> dict[str, Tensor]:
    """Spread weights over the rows of the labels of a batch, by label.

    Args:
        weights: Weights of each system by label.
        n_atoms: Numbers of atoms of the systems [n_systems].
    """
    found = {name: torch.tensor([one[name] for one in weights], dtype=torch.float64) for name in weights[0]}
    return {
        name: one.repeat_interleave(n_atoms) if get_key(name).level == "atom" else one for name, one in found.items()
    }


def joined(
    graphs: Sequence[Graph],
    labels: Sequence[Mapping[str, Tensor]],
    frames: Sequence[int],
    weights: Sequence[Mapping[Any, float]] | None = None,
) -> Batch:
    """Make a batch of frames that were read one by one; arguments as for `PackedFrames`, plus the numbers of the frames."""
    batch = PackedFrames(graphs, labels, weights).batch(range(len(graphs)))
    return replace(batch, frames=list(frames))
