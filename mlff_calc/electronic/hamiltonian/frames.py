"""Features in the frames of pairs of atoms, with both parities.

Features of atoms [n_atoms, 2, (l_max+1)^2, channels] are `true` ones (0), whose degree l has the parity (-1)^l like
harmonics, and `pseudo` ones (1), of parity (-1)^(l+1) like a cross product. In the frame of a pair, rotations about the
pair and mirror planes through it remain. With e3nn's components the mirror x -> -x leaves the component +m of a true
feature and turns the sign of -m, and the reverse for a pseudo feature. Both become alike if pseudo features are turned
by a quarter period: the numbers

    z_m = x_m + i x_-m  (true),      z_m = -x_-m + i x_m  (pseudo),      z_0 = x_0 (true) + i x_0 (pseudo)

get the phase m a from a rotation by a about the pair, and a mirror makes them complex conjugate. Linear maps that
commute with both are real matrices, one for each m > 0, and one each for the real and imaginary part of order 0.
Products z z' and z conj(z') are equivariant as they stand.

| name in code | shape | content |
|---|---|---|
| `rows` of a frame | [n_pairs, 2, (l_max+1)^2, channels] | real before imaginary parts at each m, see `reduced_orders` |
| `stack` | [2 (l_max+1), n_pairs, width] | rows 2m and 2m + 1 are the real and imaginary part of z_m, without degrees |

Source: Passaro and Zitnick, "Reducing SO(3) convolutions to SO(2)" (2023), for one parity; both parities are our own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.nn.frames import EdgeFrames


class PairFrames(nn.Module):
    """Maps of the features of atoms to the frames of pairs.

    Args:
        l_max: Highest degree of the features.
    """

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        self.frames = EdgeFrames(l_max, l_max)

    def forward(self, directions: Tensor) -> Tensor:
        """Compute orthogonal matrices [n_pairs, 2, (l_max+1)^2, (l_max+1)^2], for true and pseudo features.

        Args:
            directions: Unit vectors of pairs [n_pairs, 3], in the axes of e3nn.
        """
        true = self.frames(directions)
        parts, start = [true[:, : self.l_max + 1]], self.l_max + 1
        for m in range(1, self.l_max + 1):
            n_m = self.l_max + 1 - m
            plus, minus = true[:, start : start + n_m], true[:, start + n_m : start + 2 * n_m]
            parts += [-minus, plus]
            start += 2 * n_m
        return torch.stack([true, torch.cat(parts, dim=1)], dim=1)


class FromDegrees(nn.Module):
    """Linear map of features in frames to a stack.

    Args:
        l_max: Highest degree.
        channels: Channels of each of the two parities.
        width: Width of the stack.
    """

    def __init__(self, l_max: int, channels: int, width: int) -> None:
        super().__init__()
        self.sizes = [l_max + 1] + [2 * (l_max + 1 - m) for m in range(1, l_max + 1)]
        self.zeroth, self.orders = _weights(l_max, channels, width, outward=False)

    def forward(self, rows: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        """Map features in frames to a stack.

        Args:
            rows: Features [n_pairs, 2, (l_max+1)^2, channels], rows of a frame.
            shift: What is added to the real part of order 0 [n_pairs, width].

        Returns:
            The stack [2 (l_max+1), n_pairs, width].
        """
        n_pairs = rows.shape[0]
        first, *others = rows.split(self.sizes, dim=2)
        real, imaginary = torch.bmm(first.transpose(0, 1).flatten(2), self.zeroth).unbind(0)
        mapped = [real + shift, imaginary]
        for weight, part in zip(self.orders, others, strict=True):
            numbers = part.unflatten(2, (2, part.shape[2] // 2)).permute(2, 0, 1, 3, 4).flatten(0, 1).flatten(1)
            mapped += (numbers @ weight).view(2, n_pairs, weight.shape[1]).unbind(0)
        return torch.stack(mapped)


class ToDegrees(nn.Module):
    """Linear map of a stack to features in frames.

    Args:
        l_max: Highest degree.
        width: Width of the stack.
        channels: Channels of each of the two parities.
    """

    def __init__(self, l_max: int, width: int, channels: int) -> None:
        super().__init__()
        self.l_max, self.channels = l_max, channels
        self.zeroth, self.orders = _weights(l_max, channels, width, outward=True)

    def forward(self, stack: Tensor) -> Tensor:
        """Map [2 (l_max+1), n_pairs, width] to features [n_pairs, 2, (l_max+1)^2, channels], rows of a frame."""
        n_pairs = stack.shape[1]
        first, *others = stack.split([2] * (self.l_max + 1))
        rows = [torch.bmm(first, self.zeroth).view(2, n_pairs, self.l_max + 1, self.channels).transpose(0, 1)]
        for m, (weight, part) in enumerate(zip(self.orders, others, strict=True), start=1):
            mapped = part.flatten(0, 1) @ weight
            rows += mapped.view(2, n_pairs, 2, self.l_max + 1 - m, self.channels).unbind(0)
        return torch.cat(rows, dim=2)


def _weights(l_max: int, channels: int, width: int, *, outward: bool) -> tuple[nn.Parameter, nn.ParameterList]:
    """Matrices of order 0 (true and pseudo), and of the others with rows (parity, degree, channel) outside of the stack."""

    def made(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(*shape) / shape[-2] ** 0.5)

    fans = [2 * (l_max + 1 - m) * channels for m in range(1, l_max + 1)]
    zero = (l_max + 1) * channels
    zeroth = made(2, width, zero) if outward else made(2, zero, width)
    return zeroth, nn.ParameterList(made(width, fan) if outward else made(fan, width) for fan in fans)
