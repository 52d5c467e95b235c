"""Features in the frames of pairs of atoms, with both parities.

Features of atoms are two tensors: `true` ones, whose degree l has the parity (-1)^l like harmonics, and `pseudo` ones, of parity
(-1)^(l+1) like a cross product. In the frame of a pair, rotations about the pair and mirror planes through it remain. With
e3nn's components the mirror x -> -x leaves the component +m of a true feature and turns the sign of -m, and the reverse for a
pseudo feature. Both become alike if pseudo features are turned by a quarter period: the numbers

    z_m = x_m + i x_-m  (true),      z_m = -x_-m + i x_m  (pseudo),      z_0 = x_0 (true) + i x_0 (pseudo)

get the phase m a from a rotation by a about the pair, and a mirror makes them complex conjugate. Linear maps that commute with both are
real matrices, one for each m > 0, and one each for the real and imaginary part of order 0. Products z z' and z conj(z') are
equivariant as they stand.

| name in code | shape | content |
|---|---|---|
| rows of a frame | [n_pairs, (l_max+1)^2, channels] | real parts before imaginary ones at each m, see `nn.frames.reduced_orders` |
| `stack` | [2 (l_max+1), n_pairs, width] | rows 2m and 2m + 1 are the real and imaginary part of z_m, without degrees |

Source: Passaro and Zitnick, "Reducing SO(3) convolutions to SO(2)" (2023), for one parity; both parities are our own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.nn.frames import EdgeFrames


class Turns(NamedTuple):
    """Maps of the features of atoms to the frames of pairs, orthogonal matrices.

    Attributes:
        true: Matrices of true features [n_pairs, (l_max+1)^2, (l_max+1)^2].
        pseudo: Matrices of pseudo features, with the quarter turn.
    """

    true: Tensor
    pseudo: Tensor


class PairFrames(nn.Module):
    """Maps to the frames of pairs.

    Args:
        l_max: Highest degree of the features.
    """

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        self.frames = EdgeFrames(l_max, l_max)

    def forward(self, directions: Tensor) -> Turns:
        """Compute the maps of unit `directions` [n_pairs, 3], in the axes of e3nn."""
        true = self.frames(directions)
        parts, start = [true[:, : self.l_max + 1]], self.l_max + 1
        for m in range(1, self.l_max + 1):
            n_m = self.l_max + 1 - m
            plus, minus = true[:, start : start + n_m], true[:, start + n_m : start + 2 * n_m]
            parts += [-minus, plus]
            start += 2 * n_m
        return Turns(true, torch.cat(parts, dim=1))


class FromDegrees(nn.Module):
    """Linear map of features in frames to a stack.

    Args:
        l_max: Highest degree.
        channels: Channels of each of the two parities.
        width: Width of the stack.
    """

    def __init__(self, l_max: int, channels: int, width: int) -> None:
        super().__init__()
        self.l_max = l_max
        self.weights = nn.ParameterList(_weights(l_max, channels, width, outward=False))

    def forward(self, true: Tensor, pseudo: Tensor) -> Tensor:
        """Map `true` and `pseudo` [n_pairs, (l_max+1)^2, channels], rows of a frame, to [2 (l_max+1), n_pairs, width]."""
        n_pairs, first = true.shape[0], self.l_max + 1
        parts = [one[:, :first].reshape(n_pairs, -1) @ self.weights[k] for k, one in enumerate((true, pseudo))]
        both = torch.cat([true[:, first:], pseudo[:, first:]], dim=2)
        rows, start = [part.unsqueeze(0) for part in parts], 0
        for m in range(1, self.l_max + 1):
            end = start + 2 * (self.l_max + 1 - m)
            mapped = both[:, start:end].reshape(2 * n_pairs, -1) @ self.weights[m + 1]
            rows.append(mapped.view(n_pairs, 2, -1).transpose(0, 1))
            start = end
        return torch.cat(rows)


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
        self.weights = nn.ParameterList(_weights(l_max, channels, width, outward=True))

    def forward(self, stack: Tensor) -> tuple[Tensor, Tensor]:
        """Map [2 (l_max+1), n_pairs, width] to true and pseudo features [n_pairs, (l_max+1)^2, channels], rows of a frame."""
        n_pairs, first, channels = stack.shape[1], self.l_max + 1, self.channels
        true, pseudo = ([(stack[k] @ self.weights[k]).view(n_pairs, first, channels)] for k in (0, 1))
        for m in range(1, first):
            mapped = (stack[2 * m : 2 * m + 2].reshape(2 * n_pairs, -1) @ self.weights[m + 1]).view(2, n_pairs, 2, -1, channels)
            true += [mapped[0, :, 0], mapped[1, :, 0]]
            pseudo += [mapped[0, :, 1], mapped[1, :, 1]]
        return torch.cat(true, dim=1), torch.cat(pseudo, dim=1)


def _weights(l_max: int, channels: int, width: int, *, outward: bool) -> list[nn.Parameter]:
    """Matrices of order 0 (true, pseudo) and of all others, with rows (degree, parity and channel) outside of the stack."""
    fans = [(l_max + 1) * channels] * 2 + [2 * (l_max + 1 - m) * channels for m in range(1, l_max + 1)]
    shapes = [(width, fan) if outward else (fan, width) for fan in fans]
    return [nn.Parameter(torch.randn(*shape) / shape[0] ** 0.5) for shape in shapes]
