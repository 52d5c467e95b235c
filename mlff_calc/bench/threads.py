"""The number of PyTorch's threads in a block of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlff_calc.errors import OptionError


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Run torch on `threads` threads inside the block, and on as many as before afterwards.

    Raises:
        OptionError: fewer than one thread.
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
