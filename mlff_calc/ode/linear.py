"""Exact solutions of y' = A y with constant matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.ode.pieces import Solution, checked_times


def exact(matrix: Tensor, state: Tensor, times: Tensor) -> Solution:
    """States exp(A t) y(0) at the requested times.

    Args:
        matrix: A [..., n, n], with leading dimensions that broadcast with those of a sample's state.
        state: States at time 0 [n_samples, ..., n, k].
        times: [n_times] or [n_samples, n_times], from 0 on, rising.

    Raises:
        OptionError: Times are not finite, negative, or not rising.
    """
    times = checked_times(times, state)
    spread = times.reshape(*times.shape, *[1] * matrix.ndim)
    states = torch.linalg.matrix_exp(matrix * spread) @ state.unsqueeze(1)
    return Solution(states, torch.zeros(len(state), dtype=torch.long, device=state.device))
