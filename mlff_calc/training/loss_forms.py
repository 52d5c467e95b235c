"""Functions of an error that losses are built from; each gives one number per row."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-24  # under the square root of the norm: its gradient at exactly zero error is 0, not NaN


def l2(error: Tensor) -> Tensor:
    """Euclidean norm of each row of `error` [n, m], shape [n]."""
    return (error.square().sum(dim=-1) + _TINY).sqrt()


def mse(error: Tensor) -> Tensor:
    """Mean square of each row of `error` [n, m], shape [n]."""
    return error.square().mean(dim=-1)


def huber(error: Tensor, delta: float) -> Tensor:
    """Mean Huber function of each row of `error` [n, m], shape [n]."""
    size = error.abs()
    return torch.where(size < delta, 0.5 * error.square(), delta * (size - 0.5 * delta)).mean(dim=-1)
