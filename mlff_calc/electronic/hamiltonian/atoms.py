"""Layers on features of atoms of both parities [n_atoms, 2, (l_max+1)^2, channels] (see `frames.py`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.nn.degree import degree_index


class AtomNorm(nn.Module):
    """Layer normalization of true scalars, and one joint norm of all other features of an atom, without a shift.

    Args:
        l_max: Highest degree.
        channels: Channels of each parity.
        eps: Size below which features stay small, which keeps the map smooth at zero.
    """

    balance: Tensor
    degrees: Tensor

    def __init__(self, l_max: int, channels: int, eps: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(2 * (l_max + 1), channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        degrees = _both(l_max)
        balance = [1.0 / (2 * (degree % (l_max + 1)) + 1) / (2 * l_max + 1) / channels for degree in degrees[1:]]
        self.register_buffer("degrees", torch.tensor(degrees), persistent=False)
        self.register_buffer("balance", torch.tensor(balance, dtype=torch.float64).view(1, -1, 1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Normalize [n_atoms, 2, (l_max+1)^2, channels]."""
        scalars, rest = features.flatten(1, 2).split([1, len(self.degrees) - 1], dim=1)
        scalars = scalars - scalars.mean(dim=2, keepdim=True)
        scalars = scalars * torch.rsqrt(scalars.square().mean(dim=2, keepdim=True) + self.eps**2)
        power = (rest.square() * self.balance.to(rest.dtype)).sum(dim=(1, 2), keepdim=True)
        rest = rest * torch.rsqrt(power + self.eps**2)
        first, others = self.scale.index_select(0, self.degrees).split([1, len(self.degrees) - 1])
        return torch.cat([scalars * first + self.shift, rest * others], dim=1).view_as(features)


class AtomFeedForward(nn.Module):
    """Linear map by degree, gate by scalars, linear map by degree, for both parities.

    Args:
        l_max: Highest degree.
        channels: Channels of each parity.
        hidden: Channels between both maps.
    """

    degrees: Tensor

    def __init__(self, l_max: int, channels: int, hidden: int) -> None:
        super().__init__()
        n_kinds = 2 * (l_max + 1)
        self.hidden = hidden
        self.expand = nn.Parameter(torch.randn(n_kinds, channels, hidden) / channels**0.5)
        self.contract = nn.Parameter(torch.randn(n_kinds, hidden, channels) / hidden**0.5)
        self.gates = nn.Linear(channels, (n_kinds - 1) * hidden)
        self.shift = nn.Parameter(torch.zeros(hidden))
        self.register_buffer("degrees", torch.tensor(_both(l_max)), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map [n_atoms, 2, (l_max+1)^2, channels] to the same shape."""
        n_atoms, width = features.shape[0], features.shape[3]
        rows = features.flatten(1, 2).transpose(0, 1)
        up = torch.bmm(rows, self.expand.index_select(0, self.degrees))
        scalars, rest = up.split([1, len(up) - 1])
        opened = torch.sigmoid(self.gates(rows[0])).view(n_atoms, -1, self.hidden).transpose(0, 1)
        opened = opened.index_select(0, self.degrees[1:] - 1)
        up = torch.cat([nn.functional.silu(scalars + self.shift), rest * opened])
        down = torch.bmm(up, self.contract.index_select(0, self.degrees))
        return down.transpose(0, 1).reshape(n_atoms, 2, -1, width)


def _both(l_max: int) -> list[int]:
    """Number of the degree of each component, counted on for pseudo features."""
    degrees = degree_index(l_max)
    return degrees + [l_max + 1 + degree for degree in degrees]
