"""Batches of every kind, the interface of their sources, and the order of an epoch, which depends only on seed and epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mlff_calc.graph import to_device
from mlff_calc.graph.keys import Graph


@dataclass(frozen=True)
class Batch:
    """Some frames joined to one graph, with their labels.

    Attributes:
        graph: Inputs of the network, by registered key (graph/keys.py).
        labels: Targets by registered key, which defines level and unit; NaN where a frame lacks one.
        n_atoms: Numbers of atoms of the systems [n_systems].
        frames: Numbers of the frames within their part of the data, one for each system.
        weights: Weights of the terms of the loss by label, one for each row of the label; None where all are 1.
    """

    graph: Graph
    labels: dict[str, Tensor]
    n_atoms: Tensor
    frames: list[int]
    weights: dict[str, Tensor] | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        if self.n_atoms.device == device:
            return self
        graph, labels = (to_device(each, device, non_blocking=True) for each in (self.graph, self.labels))
        weights = self.weights and to_device(self.weights, device, non_blocking=True)
        return Batch(graph, labels, self.n_atoms.to(device, non_blocking=True), self.frames, weights)


class BatchSource(Protocol):
    """Source of batches.

    `packed.PackedFrames` is a source in memory. A source that reads frame by frame joins them with `packed.joined`.
    """

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def batch(self, frames: Sequence[int], epoch: int, generator: torch.Generator) -> Batch:
        """Return the given frames as one batch.

        Args:
            frames: Numbers of frames.
            epoch: Number of the epoch, from 0; 0 in validations.
            generator: Generator on the CPU that depends only on seed and epoch, for random choices of the source.
        """
        ...


def generator_of(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Create a generator that depends only on the given numbers (seed, epoch, process, stream)."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0] >> np.uint64(1)))


class EpochLoader:
    """Iterator over the batches of an epoch, in an order drawn from (seed, epoch) and divided among processes.

    With several processes each takes every `world`-th frame of the common order. Frames from the beginning are repeated
    so that all processes get the same number.

    Args:
        data: Source of the frames.
        batch_size: Number of frames per batch and process.
        seed: Seed of the order; None for the order of the file.
        rank: Number of this process.
        world: Number of processes.
        epoch: Function that returns the number of the epoch, called when the first batch is drawn.
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
        """Return the frames of this process in this epoch."""
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

    def __iter__(self) -> Iterator[Batch]:
        order, epoch = self.order(), self.epoch()
        generator = generator_of(self.seed or 0, epoch, self.rank)
        for start in range(0, len(order), self.batch_size):
            yield self.data.batch(order[start : start + self.batch_size], epoch, generator)
