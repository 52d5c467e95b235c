"""Linear layers whose outputs are as large as their inputs."""

from __future__ import annotations

from torch import nn


def dense(fan_in: int, fan_out: int) -> nn.Linear:
    """A linear map that keeps the variance of its input at the start, so that geometry is heard through many layers."""
    layer = nn.Linear(fan_in, fan_out)
    nn.init.normal_(layer.weight, std=fan_in**-0.5)
    nn.init.zeros_(layer.bias)
    return layer
