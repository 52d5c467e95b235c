"""Linear layers whose outputs have the variance of their inputs."""

from __future__ import annotations

from torch import nn


def dense(fan_in: int, fan_out: int) -> nn.Linear:
    """Create a linear layer that initially keeps the variance of its input, so that geometry survives many layers."""
    layer = nn.Linear(fan_in, fan_out)
    nn.init.normal_(layer.weight, std=fan_in**-0.5)
    nn.init.zeros_(layer.bias)
    return layer
