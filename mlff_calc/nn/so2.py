"""Linear layers in the frame of an edge, equivariant under the symmetries that remain once the edge is the polar axis.

Features in an edge frame have shape [n_edges, n_reduced, channels], sorted by order m (frames.reduced_orders). A linear
map that commutes with rotations about the axis mixes degrees and channels freely at one order m, and acts on the pair
(+m, -m) like a complex number. If it also commutes with mirror planes through the axis, and features of degree l have
parity (-1)^l, the imaginary part vanishes. This is `mirror=True`, which a potential needs and which halves the cost.
Hamiltonian blocks couple features of both parities and need `mirror=False`.

| symbol | name in code | shape |
|---|---|---|
| W_0 | `weight_0` | [(l_max + 1) * in_channels, (l_max + 1) * out_channels + extra_scalars] |
| W_m (real, imaginary) | `orders[m-1].real`, `.imaginary` | [n_m * in_channels, n_m * out_channels], n_m = l_max + 1 - m |

Source: Passaro and Zitnick (2023), Eqs. 5-8; Liao et al., "EquiformerV2" (2023), Sec. 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class OrderLinear(nn.Module):
    """The map at one order m > 0, acting on the pair (+m, -m)."""

    def __init__(self, fan_in: int, fan_out: int, mirror: bool) -> None:
        super().__init__()
        self.mirror = mirror
        scale = 1.0 / math.sqrt(fan_in if mirror else 2 * fan_in)
        self.real = nn.Parameter(torch.randn(fan_in, fan_out) * scale)
        self.imaginary = nn.Parameter(torch.randn(0 if mirror else fan_in, fan_out) * scale)

    def forward(self, pair: Tensor) -> list[Tensor]:
        """Map components [n_edges, 2 * n_m, in_channels], those of +m before those of -m, to [..., out_channels].

        Returns:
            The result, in parts along its second dimension. One product with a matrix of blocks (or two products, where
            there is no imaginary part) is faster than a product with interleaved rows, whose order compiles to an
            integer division per element.
        """
        n_edges, n_m = pair.shape[0], pair.shape[1] // 2
        fan_in, fan_out = self.real.shape
        if self.mirror:
            halves = (pair[:, :n_m].reshape(n_edges, fan_in), pair[:, n_m:].reshape(n_edges, fan_in))
            return [(half @ self.real).view(n_edges, n_m, fan_out // n_m) for half in halves]
        blocks = [torch.cat([self.real, self.imaginary], dim=1), torch.cat([-self.imaginary, self.real], dim=1)]
        mapped = pair.reshape(n_edges, 2 * fan_in) @ torch.cat(blocks)
        return [mapped.view(n_edges, 2 * n_m, fan_out // n_m)]


class SO2Linear(nn.Module):
    """Linear map of features in an edge frame, equivariant under rotations about (and mirrors through) the edge.

    Args:
        l_max: highest degree.
        m_max: highest order kept.
        in_channels, out_channels: channels per component.
        extra_scalars: number of further outputs without degree, from order 0 (gates, attention logits).
        mirror: whether the map also commutes with mirror planes through the edge (features of parity (-1)^l).
    """

    def __init__(
        self,
        l_max: int,
        m_max: int,
        in_channels: int,
        out_channels: int,
        extra_scalars: int = 0,
        mirror: bool = True,
    ) -> None:
        super().__init__()
        self.l_max = l_max
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.extra_scalars = extra_scalars
        fan_in = (l_max + 1) * in_channels
        fan_out = (l_max + 1) * out_channels + extra_scalars
        self.weight_0 = nn.Parameter(torch.randn(fan_in, fan_out) / math.sqrt(fan_in))
        self.bias_0 = nn.Parameter(torch.zeros(out_channels + extra_scalars))
        self.orders = nn.ModuleList(
            [
                OrderLinear((l_max + 1 - m) * in_channels, (l_max + 1 - m) * out_channels, mirror)
                for m in range(1, m_max + 1)
            ]
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map [n_edges, n_reduced, in_channels] to ([n_edges, n_reduced, out_channels], [n_edges, extra_scalars])."""
        width = self.l_max + 1
        zeroth, extra = self.order_zero(features[:, :width])
        parts = [zeroth]
        start = width
        for m, order in enumerate(self.orders):
            end = start + 2 * (self.l_max - m)
            parts += order(features[:, start:end])
            start = end
        return torch.cat(parts, dim=1), extra

    def order_zero(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute order 0 of the result of `forward` [n_edges, l_max+1, out_channels], and the extra scalars.

        Args:
            features: features of order 0 [n_edges, l_max+1, in_channels].
        """
        zeroth = features.reshape(-1, (self.l_max + 1) * self.in_channels) @ self.weight_0
        extra = zeroth[:, : self.extra_scalars] + self.bias_0[: self.extra_scalars]
        zeroth = zeroth[:, self.extra_scalars :].view(-1, self.l_max + 1, self.out_channels)
        scalars = zeroth[:, :1] + self.bias_0[self.extra_scalars :]
        return torch.cat([scalars, zeroth[:, 1:]], dim=1), extra

    def scalars(self, features: Tensor) -> Tensor:
        """Compute degree 0 of the result of `forward` [n_edges, out_channels] from the features of order 0."""
        first, end = self.extra_scalars, self.extra_scalars + self.out_channels
        return (
            features.reshape(-1, (self.l_max + 1) * self.in_channels) @ self.weight_0[:, first:end]
            + self.bias_0[first:end]
        )
