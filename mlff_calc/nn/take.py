"""Selection of entries at constant places, by slices."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Take(nn.Module):
    """Compute `values[:, index]` for a constant index.

    The backward pass of a slice is a slice, whereas that of `index_select` adds into scattered places. Compilers
    distribute such additions over threads, which is slow, and wrong in PyTorch 2.13 on CPU.

    Args:
        index: places along dimension 1, in the wanted order; places may repeat.
    """

    def __init__(self, index: list[int]) -> None:
        super().__init__()
        self.runs = _runs(index)

    def forward(self, values: Tensor) -> Tensor:
        """Map [n, m, width] to [n, len(index), width]."""
        parts = []
        for start, length, repeats in self.runs:
            part = values[:, start : start + length]
            parts.append(part.expand(-1, repeats, -1) if repeats > 1 else part)
        return torch.cat(parts, dim=1)


def _runs(index: list[int]) -> list[list[int]]:
    """Split the index into runs [start, length, repeats]: consecutive places taken once, or one place repeated."""
    runs: list[list[int]] = []
    for place in index:
        start, length, repeats = runs[-1] if runs else [place, 0, 0]
        if runs and place == start and length == 1:
            runs[-1] = [start, 1, repeats + 1]
        elif runs and place == start + length and repeats == 1:
            runs[-1] = [start, length + 1, 1]
        else:
            runs.append([place, 1, 1])
    return runs
