"""Limit on the threads of PyTorch within a block of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlff_calc.errors import OptionError


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Set the number of threads of PyTorch inside the block, and restore the previous number afterwards.

    Args:
        threads: Number of threads; None leaves it unchanged.

    Raises:
        OptionError: The number of threads is below one.
    """
    if threads is not None and threads < 1:
        msg = f"{threads} threads cannot run anything; give 1 or more"
        raise OptionError(msg)
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
