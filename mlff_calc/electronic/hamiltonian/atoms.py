"""Layers on features of atoms of both parities: `true` and `pseudo` [n_atoms, (l_max+1)^2, channels] (see `frames.py`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.nn.degree import degree_index, degree_product
from mlff_calc.nn.take import Take


class AtomNorm(nn.Module):
    """Layer normalization of true scalars, and one joint norm of all other features of an atom, without a shift.

    Args:
        l_max: Highest degree.
        channels: Channels of each parity.
        eps: Size below which features stay small, which keeps the map smooth at zero.
    """

    balance: Tensor

    def __init__(self, l_max: int, channels: int, eps: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(2, l_max + 1, channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        degrees = degree_index(l_max)
        self.take_degrees = Take(degrees)
        balance = torch.tensor([1.0 / (2 * degree + 1) / (2 * l_max + 1) for degree in degrees], dtype=torch.float64)
        self.register_buffer("balance", balance.unsqueeze(-1), persistent=False)

    def forward(self, true: Tensor, pseudo: Tensor) -> tuple[Tensor, Tensor]:
        """Normalize features [n_atoms, (l_max+1)^2, channels] of both parities."""
        scalars, rest = true[:, :1], true[:, 1:]
        scalars = scalars - scalars.mean(dim=2, keepdim=True)
        scalars = scalars * torch.rsqrt(scalars.square().mean(dim=2, keepdim=True) + self.eps**2)
        balance = self.balance.to(true.dtype)
        power = (rest.square() * balance[1:]).sum(dim=1, keepdim=True) + (pseudo.square() * balance).sum(dim=1, keepdim=True)
        factor = torch.rsqrt(power.mean(dim=2, keepdim=True) + self.eps**2)
        scale = self.take_degrees(self.scale)
        true = torch.cat([scalars * scale[0, :1] + self.shift, rest * factor * scale[0, 1:]], dim=1)
        return true, pseudo * factor * scale[1]


class AtomFeedForward(nn.Module):
    """Linear map by degree, gate by scalars, linear map by degree, for both parities.

    Args:
        l_max: Highest degree.
        channels: Channels of each parity.
        hidden: Channels between both maps.
    """

    def __init__(self, l_max: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.l_max, self.hidden = l_max, hidden
        self.expand = nn.Parameter(torch.randn(2, l_max + 1, channels, hidden) / channels**0.5)
        self.contract = nn.Parameter(torch.randn(2, l_max + 1, hidden, channels) / hidden**0.5)
        self.shift = nn.Parameter(torch.zeros(hidden))
        self.gates = nn.Linear(channels, (2 * l_max + 1) * hidden)
        degrees = degree_index(l_max)
        self.take_gates = Take([degree - 1 for degree in degrees[1:]] + [l_max + degree for degree in degrees])

    def forward(self, true: Tensor, pseudo: Tensor) -> tuple[Tensor, Tensor]:
        """Map features [n_atoms, (l_max+1)^2, channels] of both parities to the same shape."""
        zero = torch.zeros_like(self.shift)
        opened = torch.sigmoid(self.gates(true[:, 0])).view(-1, 2 * self.l_max + 1, self.hidden)
        opened = self.take_gates(opened)
        up, rest = degree_product(true, self.expand[0], self.shift), degree_product(pseudo, self.expand[1], zero)
        n_true = true.shape[1] - 1
        up = torch.cat([nn.functional.silu(up[:, :1]), up[:, 1:] * opened[:, :n_true]], dim=1)
        zero = true.new_zeros(true.shape[2])
        down = degree_product(up, self.contract[0], zero)
        return down, degree_product(rest * opened[:, n_true:], self.contract[1], zero)
