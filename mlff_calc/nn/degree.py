"""Layers on steerable features [n, (l_max + 1)^2, channels]: linear maps per degree, normalization and gate.

Source: Liao et al., "EquiformerV2" (2023), Sec. 4.2 (separable layer normalization); Liao and Smidt, "Equiformer"
(2022), Sec. 4.1 (gate).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlff_calc.nn.take import Take


def degree_index(l_max: int) -> list[int]:
    """Degree of each of the (l_max + 1)^2 components in e3nn order."""
    return [degree for degree in range(l_max + 1) for _ in range(2 * degree + 1)]


class DegreeLinear(nn.Module):
    """Linear map of channels with one matrix per degree and a bias on scalars only.

    All components are multiplied by all matrices side by side, and each keeps the result of its own degree. Atoms are
    few compared with edges, and one large product is faster than one per degree or thousands of small ones.
    """

    def __init__(self, l_max: int, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.l_max = l_max
        self.out_channels = out_channels
        self.weight = nn.Parameter(torch.randn(l_max + 1, in_channels, out_channels) / math.sqrt(in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels), requires_grad=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map [n, (l_max+1)^2, in_channels] to [n, (l_max+1)^2, out_channels]."""
        return degree_product(features, self.weight, self.bias)

    def scalars(self, scalars: Tensor) -> Tensor:
        """Compute degree 0 of the result of `forward` [..., out_channels] from the scalars [..., in_channels]."""
        return scalars @ self.weight[0] + self.bias


def degree_product(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Multiply `features` [n, (l_max+1)^2, in_channels] by `weight` [l_max+1, in_channels, out_channels] per degree."""
    n_rows, n_components, in_channels = features.shape
    n_degrees, _, out_channels = weight.shape
    side_by_side = weight.permute(1, 0, 2).reshape(in_channels, n_degrees * out_channels)
    mixed = features.reshape(n_rows * n_components, in_channels) @ side_by_side
    mixed = mixed.view(n_rows, n_components, n_degrees, out_channels)
    parts = [mixed[:, :1, 0] + bias]
    for degree in range(1, n_degrees):
        parts.append(mixed[:, degree * degree : (degree + 1) * (degree + 1), degree])
    return torch.cat(parts, dim=1)


class DegreeNorm(nn.Module):
    """Separable layer normalization: scalars by mean and variance, all other degrees by one joint norm.

    The joint norm weights all degrees equally. It is taken per atom, which makes it size-consistent. `eps` keeps small
    features small and the map smooth at zero.
    """

    balance: Tensor

    def __init__(self, l_max: int, channels: int, eps: float = 0.1) -> None:
        super().__init__()
        self.l_max = l_max
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(l_max + 1, channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        degrees = degree_index(l_max)[1:]
        self.take_degrees = Take(degrees)
        balance = torch.tensor([1.0 / (2 * degree + 1) / l_max for degree in degrees], dtype=torch.float64)
        self.register_buffer("balance", balance.unsqueeze(-1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Normalize [n, (l_max+1)^2, channels]."""
        scalars = self.scalars(features[:, :1])
        if self.l_max == 0:
            return scalars
        rest = features[:, 1:]
        power = (rest * rest * self.balance.to(rest.dtype)).sum(dim=1, keepdim=True).mean(dim=2, keepdim=True)
        rest = rest * torch.rsqrt(power + self.eps * self.eps) * self.take_degrees(self.scale.unsqueeze(0))
        return torch.cat([scalars, rest], dim=1)

    def scalars(self, scalars: Tensor) -> Tensor:
        """Compute degree 0 of the result of `forward` from the scalars [n, 1, channels]."""
        centred = scalars - scalars.mean(dim=2, keepdim=True)
        variance = (centred * centred).mean(dim=2, keepdim=True)
        return centred * torch.rsqrt(variance + self.eps * self.eps) * self.scale[0] + self.shift


class Gate(nn.Module):
    """Exactly equivariant non-linearity: SiLU on scalars; each higher degree times the sigmoid of its own scalar.

    Args:
        degrees: degree of every component; only the first component is treated as a scalar.
        channels: channels per component.
    """

    def __init__(self, degrees: list[int], channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.l_max = max(degrees)
        self.take_gates = Take([degree - 1 for degree in degrees[1:]])

    @property
    def n_gates(self) -> int:
        """Number of scalars that `forward` expects as gates."""
        return self.l_max * self.channels

    def forward(self, features: Tensor, gates: Tensor) -> Tensor:
        """Gate [n, n_components, channels] by `gates` [n, l_max * channels]."""
        scalars = nn.functional.silu(features[:, :1])
        if self.l_max == 0:
            return scalars
        opened = self.take_gates(torch.sigmoid(gates).view(-1, self.l_max, self.channels))
        return torch.cat([scalars, features[:, 1:] * opened], dim=1)

    def order_zero(self, features: Tensor, gates: Tensor) -> Tensor:
        """Gate one component per degree [n, l_max+1, channels] as `forward` does."""
        scalars = nn.functional.silu(features[:, :1])
        if self.l_max == 0:
            return scalars
        opened = torch.sigmoid(gates).view(-1, self.l_max, self.channels)
        return torch.cat([scalars, features[:, 1:] * opened], dim=1)


class FeedForward(nn.Module):
    """Network applied to each atom: linear map, gate, linear map."""

    def __init__(self, l_max: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = DegreeLinear(l_max, channels, hidden)
        self.gate = Gate(degree_index(l_max), hidden)
        self.gates = nn.Linear(channels, max(l_max, 1) * hidden)
        self.contract = DegreeLinear(l_max, hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map [n_atoms, (l_max+1)^2, channels] to the same shape."""
        return self.contract(self.gate(self.expand(features), self.gates(features[:, 0])))

    def scalars(self, scalars: Tensor) -> Tensor:
        """Compute degree 0 of the result of `forward` from the scalars [n_atoms, 1, channels]."""
        return self.contract.scalars(nn.functional.silu(self.expand.scalars(scalars)))
