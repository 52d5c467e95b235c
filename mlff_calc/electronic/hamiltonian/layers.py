"""Layers on stacks of features in the frames of pairs: linear map, norm, gate, product and feed-forward network.

A stack [2 (m_max+1), n_pairs, width] holds the real and imaginary parts of z_m (see `frames.py`). All layers commute
with rotations about the pair (a phase m a) and with mirrors (complex conjugation): only the real part of order 0 is
shifted or passed through functions, everything else is multiplied by invariants.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StackLinear(nn.Module):
    """Linear map with one real matrix for each part of order 0 and one for each order above.

    Args:
        m_max: Highest order.
        fan_in, fan_out: Widths.
        bias: Whether the real part of order 0 is shifted.
    """

    def __init__(self, m_max: int, fan_in: int, fan_out: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(m_max + 2, fan_in, fan_out) / fan_in**0.5)
        self.bias = nn.Parameter(torch.zeros(fan_out)) if bias else None

    def forward(self, stack: Tensor, onto: Tensor | None = None) -> Tensor:
        """Map [2 (m_max+1), n_pairs, fan_in] to [2 (m_max+1), n_pairs, fan_out], and add the result to `onto` if given."""
        weight = per_row(self.weight)
        if self.bias is None:
            return torch.bmm(stack, weight) if onto is None else torch.baddbmm(onto, stack, weight)
        shift = nn.functional.pad(self.bias.view(1, 1, -1), [0, 0, 0, 0, 0, len(weight) - 1])
        return torch.baddbmm(shift if onto is None else onto + shift, stack, weight)


class FrameNorm(nn.Module):
    """Layer normalization of the real part of order 0, and one joint norm of everything else, without a shift.

    Args:
        m_max: Highest order.
        width: Width of the stack.
        eps: Size below which features stay small, which keeps the map smooth at zero.
    """

    def __init__(self, m_max: int, width: int, eps: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(m_max + 2, 1, width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, stack: Tensor) -> Tensor:
        """Normalize [2 (m_max+1), n_pairs, width]."""
        zeroth, rest = stack.split([1, len(stack) - 1])
        zeroth = zeroth - zeroth.mean(dim=2, keepdim=True)
        zeroth = zeroth * torch.rsqrt(zeroth.square().mean(dim=2, keepdim=True) + self.eps**2)
        power = rest.square().mean(dim=(0, 2), keepdim=True).transpose(0, 1).reshape(1, -1, 1)
        rest = rest * torch.rsqrt(power + self.eps**2)
        first, others = self.scale.split([1, len(self.scale) - 1])
        return torch.cat([zeroth * first + self.shift, rest * per_row(others, first=1)])


class FrameGate(nn.Module):
    """Gate: SiLU of the real part of order 0, and everything else times the sigmoid of a linear map of that part.

    Args:
        m_max: Highest order.
        width: Width of the stack.
    """

    def __init__(self, m_max: int, width: int) -> None:
        super().__init__()
        self.m_max = m_max
        self.gates = nn.Linear(width, (m_max + 1) * width)

    def forward(self, stack: Tensor) -> Tensor:
        """Gate [2 (m_max+1), n_pairs, width]."""
        n_pairs, width = stack.shape[1:]
        zeroth, rest = stack.split([1, len(stack) - 1])
        opened = torch.sigmoid(self.gates(zeroth[0])).view(n_pairs, self.m_max + 1, width).transpose(0, 1)
        return torch.cat([nn.functional.silu(zeroth), rest * per_row(opened, first=1)])


class FrameProduct(nn.Module):
    """SO(2) tensor products of two stacks, channel by channel: all z z' and all z conj(z') of each order.

    The orders of a stack are Fourier coefficients of a function of an angle. Both functions are evaluated at as many angles
    as the orders of their products need, multiplied there, and turned back to orders: 4 (2 m_max + 1) products instead of
    the 4 (m_max + 1)^2 of all components.

    Args:
        m_max: Highest order of both factors and of the product.
    """

    values: Tensor
    orders: Tensor

    def __init__(self, m_max: int) -> None:
        super().__init__()
        self.n_rows, self.n_angles = 2 * (m_max + 1), 2 * m_max + 1
        values, orders = product_at_angles(m_max)
        scale = product_table(m_max).square().sum(dim=(2, 3)).clamp(min=1.0).rsqrt()
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("orders", orders * scale.view(-1, 1), persistent=False)

    def forward(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply two stacks.

        Args:
            both: The stacks side by side [2 (m_max+1), n_pairs, 2 * width].

        Returns:
            The sums of orders, and the differences, both [2 (m_max+1), n_pairs, width].
        """
        n_rows, n_pairs, width = both.shape
        values = (self.values.to(both.dtype) @ both.flatten(1)).view(2, self.n_angles, n_pairs, 2, width // 2)
        products = values[:, None, :, :, 0] * values[None, :, :, :, 1]
        found = self.orders.to(both.dtype) @ products.flatten(0, 2).flatten(1)
        sums, differences = found.view(2, n_rows, n_pairs, width // 2).unbind(0)
        return sums, differences


class FrameFeedForward(nn.Module):
    """Linear map, gate, linear map.

    Args:
        m_max: Highest order.
        fan_in, hidden, fan_out: Widths.
    """

    def __init__(self, m_max: int, fan_in: int, hidden: int, fan_out: int) -> None:
        super().__init__()
        self.expand = StackLinear(m_max, fan_in, hidden)
        self.gate = FrameGate(m_max, hidden)
        self.contract = StackLinear(m_max, hidden, fan_out)

    def forward(self, stack: Tensor) -> Tensor:
        """Map [2 (m_max+1), n_pairs, fan_in] to [2 (m_max+1), n_pairs, fan_out]."""
        return self.contract(self.gate(self.expand(stack)))


def per_row(values: Tensor, first: int = 2) -> Tensor:
    """Repeat what belongs to an order for its two rows: [first + m_max, ...] becomes [first + 2 m_max, ...].

    Args:
        values: Values of the first rows, which are kept, and of the orders above 0.
        first: Number of rows that are kept.
    """
    kept, orders = values.split([first, len(values) - first])
    repeated = orders.unsqueeze(1).expand(-1, 2, *orders.shape[1:]).flatten(0, 1)
    return torch.cat([kept, repeated]) if first else repeated


def product_table(m_max: int) -> Tensor:
    """Coefficients of products of stacks [2, rows, rows, rows]: sums and differences, result, first and second factor.

    The sum is z_a z_b at order a + b. The difference is z_a conj(z_b) at order a - b for a >= b, and conj(z_a) z_b at
    order b - a for b > a.
    """
    n = 2 * (m_max + 1)
    table = torch.zeros(2, n, n, n, dtype=torch.float64)
    for a in range(m_max + 1):
        for b in range(m_max + 1):
            kinds = [(0, a + b, 1.0, 1.0)] if a + b <= m_max else []
            kinds.append((1, abs(a - b), *((1.0, -1.0) if a >= b else (-1.0, 1.0))))
            for kind, m, p, q in kinds:  # (x_a + i p y_a) (x_b + i q y_b)
                table[kind, 2 * m, 2 * a, 2 * b] += 1.0
                table[kind, 2 * m, 2 * a + 1, 2 * b + 1] -= p * q
                table[kind, 2 * m + 1, 2 * a, 2 * b + 1] += q
                table[kind, 2 * m + 1, 2 * a + 1, 2 * b] += p
    return table


def product_at_angles(m_max: int) -> tuple[Tensor, Tensor]:
    """The coefficients of `product_table` as two steps, by way of the angles 2 pi k / n, n = 2 m_max + 1.

    Returns:
        Values of sum_m z_m exp(i m angle) from a stack [2 n, rows], real before imaginary parts; and stacks of sums and
        differences from the products of all parts of both values at each angle [2 rows, 4 n].
    """
    n, n_rows = 2 * m_max + 1, 2 * (m_max + 1)
    angles = torch.arange(n, dtype=torch.float64).unsqueeze(1) * torch.arange(m_max + 1) * (2.0 * torch.pi / n)
    cos, sin = torch.cos(angles), torch.sin(angles)
    real, imaginary = torch.stack([cos, -sin], dim=2), torch.stack([sin, cos], dim=2)
    values = torch.stack([real, imaginary]).view(2 * n, n_rows)
    even = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)  # of the real part of z z'; -1 -> 1 in z conj(z')
    odd = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    there = torch.stack([cos.t(), -sin.t()], dim=1) / n  # [m, part, angle]: coefficients of the real part of a function
    across = torch.stack([sin.t(), cos.t()], dim=1) / n  # and of its imaginary part
    sums = torch.einsum("mxk,pq->mxpqk", there, even) + torch.einsum("mxk,pq->mxpqk", across, odd)
    differences = 2.0 * torch.einsum("mxk,pq->mxpqk", there, even.abs())  # z z'* and z* z' of orders above 0
    differences[0] = differences[0] / 2.0
    differences[0, 1] = torch.einsum("k,pq->pqk", across[0, 1], torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double())
    return values, torch.stack([sums, differences]).reshape(2 * n_rows, 4 * n)
