"""Sources of batches, drawn in an order that epoch number and seed alone decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np


class BatchSource(Protocol):
    """Frames that can be drawn as batches; a batch has a method `to(device)`."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def batch(self, frames: list[int]) -> Any:
        """The named frames as one batch."""
        ...


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
