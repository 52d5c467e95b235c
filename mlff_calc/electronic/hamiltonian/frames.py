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

The frame of a pair (j, i) is that of (i, j) after half a turn about x, which takes z to s conj(z), s = (-1)^l for true and
-(-1)^l for pseudo features (`end_signs`). Both directions of a pair therefore share one turn of the features of both atoms.
Pairs stand in two halves: each once, and then all of them in the other direction, in the same order.

| name in code | shape | content |
|---|---|---|
| `rows` of a frame | [n_pairs, 2, (l_max+1)^2, channels] | real before imaginary parts at each m, see `reduced_orders` |
| `stack` | [2 (l_max+1), n_pairs, width] | rows 2m and 2m + 1 are the real and imaginary part of z_m, without degrees |

Source: Passaro and Zitnick, "Reducing SO(3) convolutions to SO(2)" (2023), for one parity; both parities are our own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.nn.degree import degree_index
from mlff_calc.nn.frames import EdgeFrames, reduced_orders


class PairFrames(nn.Module):
    """Maps of the features of atoms to the frames of pairs.

    Args:
        l_max: Highest degree of the features.
    """

    rows: Tensor
    signs: Tensor

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.n_components = (l_max + 1) ** 2
        self.frames = EdgeFrames(l_max, l_max)
        true = [(degree, m, 1.0) for degree, m in reduced_orders(l_max, l_max)]
        pseudo = [(degree, -m, -1.0 if m > 0 else 1.0) for degree, m, _ in true]
        self.register_buffer("rows", torch.tensor([d * d + d + m for d, m, _ in true + pseudo]), persistent=False)
        self.register_buffer("signs", torch.tensor([[sign] for *_, sign in true + pseudo]), persistent=False)

    def forward(self, directions: Tensor) -> Tensor:
        """Compute orthogonal matrices [n_pairs, 2, (l_max+1)^2, (l_max+1)^2], for true and pseudo features.

        Args:
            directions: Unit vectors of pairs [n_pairs, 3], in the axes of e3nn.
        """
        blocks = enumerate(self.frames.blocks(directions))
        whole = torch.cat(
            [nn.functional.pad(block, [d * d, self.n_components - (d + 1) ** 2]) for d, block in blocks], dim=1
        )
        turns = whole.index_select(1, self.rows) * self.signs.to(whole.dtype)
        return turns.unflatten(1, (2, self.n_components))


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


class FromBothEnds(FromDegrees):
    """Linear map of the features of both atoms of pairs to stacks of both directions.

    It is that of `FromDegrees` for the features of first and second atom side by side. The sum and the difference of both
    atoms are mapped by half of the coefficients each, for half of the pairs.

    Args:
        l_max: Highest degree.
        channels: Channels of each of the two parities, of one atom.
        width: Width of the stack.
    """

    signs: Tensor
    mirror: Tensor

    def __init__(self, l_max: int, channels: int, width: int) -> None:
        super().__init__(l_max, 2 * channels, width)
        self.channels, self.n_degrees = channels, [l_max + 1 - m for m in range(l_max + 1)]
        signs = [(-1.0) ** (degree + odd) for m in range(l_max + 1) for odd in (0, 1) for degree in range(m, l_max + 1)]
        self.register_buffer("signs", torch.tensor(signs).view(-1, 1, 1), persistent=False)
        self.register_buffer("mirror", conjugation(l_max), persistent=False)

    def forward(self, rows: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        """Map features in frames to a stack.

        Args:
            rows: Features in the frame of the first direction [n_pairs / 2, 2, (l_max+1)^2, 2 channels]: of the first atom
                plus those of the second one times their signs, and the same with minus.
            shift: What is added to the real part of order 0 [n_pairs, width].

        Returns:
            The stack [2 (l_max+1), n_pairs, width].
        """
        n, width = rows.shape[0], self.zeroth.shape[2]
        sides = rows.unflatten(3, (2, self.channels))
        weights = self._of_sums_and_differences()
        first, *others = sides.split(self.sizes, dim=2)
        zeroth = first.permute(3, 1, 0, 2, 4).flatten(0, 1).flatten(2)  # sum or difference and parity; degree and channel
        parts = [torch.bmm(zeroth, weights[0].reshape(4, zeroth.shape[2], width)).view(2, 2, n, width)]
        if isinstance(shift, Tensor):
            one, other = shift.view(2, n, width).unbind(0)
            real, imaginary = parts[0].unbind(1)
            parts = [(real + 0.5 * torch.stack([one + other, one - other])).unsqueeze(1), imaginary.unsqueeze(1)]
        for weight, part in zip(weights[1:], others, strict=True):
            numbers = part.unflatten(2, (2, part.shape[2] // 2)).permute(4, 2, 0, 1, 3, 5).flatten(1, 2).flatten(2)
            parts.append(torch.bmm(numbers, weight.flatten(1, 2)).view(2, 2, n, width))
        even, odd = torch.cat(parts, dim=1).unbind(0)
        return torch.cat([even + odd, (even - odd) * self.mirror.to(even.dtype)], dim=1)

    def _of_sums_and_differences(self) -> list[Tensor]:
        """Matrices of each order for the sum and the difference [2, parities and degrees, channels, width]."""
        shape = (-1, 2, self.channels, self.zeroth.shape[-1])
        one, other = torch.cat([weight.reshape(shape) for weight in (self.zeroth, *self.orders)]).unbind(1)
        other = other * self.signs.to(other.dtype)
        return list((0.5 * torch.stack([one + other, one - other])).split([2 * n for n in self.n_degrees], dim=1))


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


def end_signs(l_max: int) -> Tensor:
    """Signs s of all components of true and pseudo features [2, (l_max+1)^2, 1] under half a turn; see the top."""
    true = torch.tensor([(-1.0) ** degree for degree in degree_index(l_max)]).unsqueeze(1)
    return torch.stack([true, -true])


def conjugation(m_max: int) -> Tensor:
    """Signs of the rows of a stack [2 (m_max+1), 1, 1] under complex conjugation."""
    return torch.tensor([1.0, -1.0] * (m_max + 1)).view(-1, 1, 1)


def _weights(l_max: int, channels: int, width: int, *, outward: bool) -> tuple[nn.Parameter, nn.ParameterList]:
    """Matrices of order 0 (true and pseudo), and of the others with rows (parity, degree, channel) outside of the stack."""

    def made(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(*shape) / shape[-2] ** 0.5)

    fans = [2 * (l_max + 1 - m) * channels for m in range(1, l_max + 1)]
    zero = (l_max + 1) * channels
    zeroth = made(2, width, zero) if outward else made(2, zero, width)
    return zeroth, nn.ParameterList(made(width, fan) if outward else made(fan, width) for fan in fans)
