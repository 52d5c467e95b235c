"""From frames to batches: graphs are made once, and drawn in an order that epoch number and seed alone decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mlff_calc.datasets import KINDS, Kind, Sample, labelled_graph
from mlff_calc.graph import collate, to_device


@dataclass(frozen=True)
class Batch:
    """Some frames as one graph, with their labels.

    Attributes:
        graph: Input keys of the graph contract.
        labels: `energy` [n_systems] eV, `forces` [n_atoms, 3] eV/Angstrom, `stress` [n_systems, 3, 3] eV/Angstrom^3;
            float64, NaN where a frame lacks the label.
        n_atoms: Atoms per system [n_systems].
        frames: Numbers of the frames within their part of the data.
        weights: Of the terms of the loss: `energy` [n_systems], `forces` [n_atoms], `stress` [n_systems], float64; None
            where all are 1.
    """

    graph: dict[str, Tensor]
    labels: dict[str, Tensor]
    n_atoms: Tensor
    frames: list[int]
    weights: dict[str, Tensor] | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        if self.n_atoms.device == device:
            return self
        labels = {name: label.to(device, non_blocking=True) for name, label in self.labels.items()}
        graph = to_device(self.graph, device, non_blocking=True)
        weights = self.weights and {name: one.to(device, non_blocking=True) for name, one in self.weights.items()}
        return Batch(graph, labels, self.n_atoms.to(device, non_blocking=True), self.frames, weights)


class BatchSource(Protocol):
    """Frames that can be drawn as batches; a batch has a method `to(device)`."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def batch(self, frames: list[int]) -> Any:
        """The named frames as one batch."""
        ...


class GraphFrames:
    """The graphs and labels of a part of the data, made once.

    Args:
        samples: Structures and labels.
        cutoff: Angstrom.
        weights: Weights of the labels of each sample; None where all are 1.

    Raises:
        StructureError: A structure cannot be a graph; names the file and the frame.
    """

    def __init__(
        self, samples: Sequence[Sample], cutoff: float, weights: Sequence[Mapping[Kind, float]] | None = None
    ) -> None:
        self.weights = weights
        self.graphs: list[dict[str, Tensor]] = []
        self.labels: list[dict[str, Tensor]] = []
        for sample in samples:
            graph = labelled_graph(sample, cutoff)
            self.labels.append({name: graph.pop(name) for name in KINDS})
            self.graphs.append(graph)

    def __len__(self) -> int:
        return len(self.graphs)

    def average_neighbors(self) -> float:
        """Edges per atom over all frames."""
        edges = sum(graph["edge_index"].shape[1] for graph in self.graphs)
        return edges / max(1, sum(graph["atomic_numbers"].shape[0] for graph in self.graphs))

    def batch(self, frames: list[int]) -> Batch:
        """The named frames as one batch."""
        graph = collate([self.graphs[index] for index in frames])
        labels: dict[str, Tensor] = {name: torch.cat([self.labels[index][name] for index in frames]) for name in KINDS}
        n_atoms = torch.tensor([self.graphs[index]["atomic_numbers"].shape[0] for index in frames])
        return Batch(graph, labels, n_atoms, frames, self._weights_of(frames, n_atoms))

    def _weights_of(self, frames: list[int], n_atoms: Tensor) -> dict[str, Tensor] | None:
        """Of a batch: one per system, and of forces one per atom."""
        if self.weights is None:
            return None
        chosen = [self.weights[index] for index in frames]
        found = {kind: torch.tensor([one[kind] for one in chosen], dtype=torch.float64) for kind in KINDS}
        return {kind: one.repeat_interleave(n_atoms) if kind == "forces" else one for kind, one in found.items()}


class EpochLoader:
    """Batches of an epoch, in an order drawn from (seed, epoch), divided among processes.

    With several processes every one takes each `world`-th frame of the common order; frames of the beginning are repeated so
    that all get the same number.

    Args:
        data: The frames.
        batch_size: Frames per batch and process.
        seed: Seed of the order; None for the order of the file.
        rank: Number of this process.
        world: Number of processes.
        epoch: Tells the number of the epoch; asked when the first batch is drawn.
    """

    def __init__(
        self,
        data: BatchSource,
        batch_size: int,
        seed: int | None,
        rank: int = 0,
        world: int = 1,
        epoch: Callable[[], int] = lambda: 0,
    ) -> None:
        self.data, self.batch_size, self.seed, self.rank, self.world = data, batch_size, seed, rank, world
        self.epoch = epoch

    def order(self) -> list[int]:
        """Frames of this process in this epoch."""
        n = len(self.data)
        if self.seed is None:
            order = np.arange(n)
        else:
            order = np.random.default_rng((self.seed, self.epoch())).permutation(n)
        if self.seed is not None and n % self.world:
            order = np.resize(order, n + self.world - n % self.world)
        return [int(index) for index in order[self.rank :: self.world]]

    def __len__(self) -> int:
        per_process = -(-len(self.data) // self.world) if self.seed is not None else len(self.order())
        return -(-per_process // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        order = self.order()
        for start in range(0, len(order), self.batch_size):
            yield self.data.batch(order[start : start + self.batch_size])
