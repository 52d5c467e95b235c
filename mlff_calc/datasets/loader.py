"""Batches in an order that seed and epoch alone decide, so that a run resumed at any batch sees the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import OptionError
from mlff_calc.graph import Graph, collate


class BatchLoader:
    """Iterates over batches of graphs.

    `torch.utils.data.DataLoader(graphs, collate_fn=collate)` works as well, without the order of this one.

    Args:
        graphs: graphs with labels, such as `StructureDataset.graphs(cutoff)`.
        batch_size: graphs per batch; the last batch of an epoch may be smaller.
        shuffle: draw an order anew for every epoch.
        seed: of the orders.
        drop_last: leave out a last batch that is smaller.

    Attributes:
        epoch: which epoch the next iteration gives; iterating does not change it, `set_epoch` does.

    Raises:
        OptionError: batch size below 1, or no graphs.
    """

    def __init__(
        self, graphs: Sequence[Graph], batch_size: int, shuffle: bool = False, seed: int = 0, *, drop_last: bool = False
    ) -> None:
        if batch_size < 1:
            raise OptionError(f"batch_size is {batch_size}; give at least 1")
        if len(graphs) == 0:
            raise OptionError("there are no graphs to make batches of; give at least one")
        self.graphs, self.batch_size, self.shuffle, self.seed, self.drop_last = (
            graphs,
            batch_size,
            shuffle,
            seed,
            drop_last,
        )
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def order(self, epoch: int | None = None) -> NDArray[np.int64]:
        """Numbers of the graphs in the order of an epoch (the current one by default)."""
        if not self.shuffle:
            return np.arange(len(self.graphs))
        return np.random.default_rng((self.seed, self.epoch if epoch is None else epoch)).permutation(len(self.graphs))

    def __len__(self) -> int:
        whole, rest = divmod(len(self.graphs), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def batch(self, number: int, epoch: int | None = None) -> Graph:
        """Batch `number` of an epoch, without those before it."""
        order = self.order(epoch)
        return collate(
            [self.graphs[index] for index in order[number * self.batch_size : (number + 1) * self.batch_size]]
        )

    def __iter__(self) -> Iterator[Graph]:
        order = self.order()
        for number in range(len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield collate([self.graphs[index] for index in chosen])
