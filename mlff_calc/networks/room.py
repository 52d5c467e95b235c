"""Building a network from a file's header without taking more memory than the file's tensors can account for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SPARE, TIMES = 64 << 20, 8
"""Bytes for constants and temporaries, and how often the bytes of the file's tensors may be allocated."""
_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye, torch.arange})


class Room(TorchFunctionMode):
    """Within this, tensors may be made of as many bytes as a network of the given tensors needs, and not many more.

    Args:
        tensors: of the file, by name.

    Raises:
        ValueError: (from what makes a tensor) there is no more room.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.there = sum(tensor.nbytes for tensor in tensors.values())
        self.left = SPARE + TIMES * self.there

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call, and count what was made."""
        found = func(*args, **(kwargs or {}))
        if func in _FACTORIES and isinstance(found, Tensor):
            self.left -= found.nbytes
            if self.left < 0:
                raise ValueError(f"such a network is far larger than the {self.there} bytes of tensors in the file")
        return found
