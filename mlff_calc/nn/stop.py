"""Features through which no gradient flows, also in recorded graphs.

A record of a training step (export/trace.py) has all of its `detach` nodes removed, since those of autograd itself would cut
the gradients of forces. What must be cut is therefore an operator of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def _no_gradient(ctx: Any, gradient: Tensor) -> None:  # noqa: ANN401
    del ctx, gradient


torch.library.define("mlff::stop_gradient", "(Tensor values) -> Tensor")
torch.library.impl("mlff::stop_gradient", "default", torch.clone)
torch.library.register_fake("mlff::stop_gradient", torch.empty_like)
torch.library.register_autograd("mlff::stop_gradient", _no_gradient)


def stop_gradient(values: Tensor) -> Tensor:
    """Return a copy of values that passes no gradient on."""
    return torch.ops.mlff.stop_gradient(values)
