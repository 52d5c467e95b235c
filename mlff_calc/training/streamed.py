"""Batches of graphs that are made on demand, with a cache of limited size, for data larger than memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlff_calc.graph.keys import Graph
from mlff_calc.training.data import Batch
from mlff_calc.training.packed import joined

CACHE_BYTES = 256 * 1024**2
"""Largest size of the cached graphs in bytes. Raising it makes graphs less often where data are not much larger."""

Labelled = tuple[Graph, Mapping[str, Tensor]]


class StreamedFrames:
    """Source of batches whose graphs are made one by one; the most recently used ones are cached.

    Args:
        make: Function that returns graph and labels of a frame by its number; all frames have the same keys.
        n_frames: Number of frames.
        weights: Weights of each frame in the terms of the loss, by label; None where all are 1.
        cache_bytes: Largest size of the cached graphs in bytes.
    """

    def __init__(
        self,
        make: Callable[[int], Labelled],
        n_frames: int,
        weights: Sequence[Mapping[Any, float]] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._make, self._n, self.weights, self._most = make, n_frames, weights, cache_bytes
        self._kept: OrderedDict[int, Labelled] = OrderedDict()
        self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": OrderedDict(), "_bytes": 0}  # another process draws other frames

    def __len__(self) -> int:
        return self._n

    def batch(self, frames: Sequence[int], epoch: int = 0, generator: torch.Generator | None = None) -> Batch:
        """Return the given frames as one batch, the same in every epoch."""
        del epoch, generator
        found = [self.frame(frame) for frame in frames]
        weights = None if self.weights is None else [self.weights[frame] for frame in frames]
        return joined([graph for graph, _ in found], [labels for _, labels in found], frames, weights)

    def frame(self, number: int) -> Labelled:
        """Graph and labels of a frame."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        made = self._make(number)
        self._kept[number] = made
        self._bytes += _size(made)
        while self._bytes > self._most and self._kept:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)
        return made


def _size(labelled: Labelled) -> int:
    return sum(tensor.nbytes for each in labelled for tensor in each.values())
