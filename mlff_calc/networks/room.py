"""Building a network from a file's header without taking more memory than the file's tensors can account for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SPARE, TIMES = 64 << 20, 8
"""Bytes allowed for constants and temporaries, and allowed multiple of the bytes of the file's tensors."""
_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye, torch.arange})


class Room(TorchFunctionMode):
    """Context that limits the memory of new tensors to what a network of the given tensors can need.

    Args:
        tensors: tensors of the file, by name.

    Raises:
        ValueError: a new tensor exceeds the limit (raised where the tensor is made).
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
        """Call the function, and count the bytes of a new tensor."""
        found = func(*args, **(kwargs or {}))
        if func in _FACTORIES and isinstance(found, Tensor):
            self.left -= found.nbytes
            if self.left < 0:
                raise ValueError(f"such a network is far larger than the {self.there} bytes of tensors in the file")
        return found
