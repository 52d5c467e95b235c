"""Blocks of a matrix from features: of pairs in their own frames, of atoms by Clebsch-Gordan coefficients.

In the frame of a pair the entries of two orbitals with components z_a and z_b are the real and imaginary parts of
numbers of the orders a + b and |a - b|. Each such number is one output of a linear map of the features of the pair; one
product with a constant orthogonal matrix turns all of them into the block, which is then turned back by the Wigner
matrices of the orbitals. No Clebsch-Gordan coefficient is needed, and no degree is lost. Atoms have no frame; the
numbers of their blocks are irreducible parts of degree l <= l1 + l2, true ones where l1 + l2 + l is even and pseudo
ones elsewhere.

The orbitals of a block are those of `shells`, degrees in rising order, with components m = -l..l of each shell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlff_calc.nn.coupling import three_j
from mlff_calc.nn.frames import reduced_orders


class PairBlocks(nn.Module):
    """Blocks of pairs from their features.

    Args:
        shells: Degrees of the shells of a block.
        l_max: Highest order of the features; orders above it are left out, so it should be twice the highest degree.
        hidden: Width of the features.
    """

    fill: Tensor
    rows: Tensor
    columns: Tensor
    same_shell: Tensor
    signs: Tensor

    def __init__(self, shells: Sequence[int], l_max: int, hidden: int) -> None:
        super().__init__()
        self.width = sum(2 * degree + 1 for degree in shells)
        numbers = frame_numbers(shells, l_max)
        counts = [sum(1 for row, _ in numbers if row == k) for k in [0, 1, *range(2, 2 * l_max + 2, 2)]]
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(hidden, n) / hidden**0.5) for n in counts])
        self.shift = nn.Parameter(torch.zeros(counts[0]))
        order = sorted(range(len(numbers)), key=lambda k: numbers[k][0])  # stable: as the parts below are joined
        fill = torch.stack([numbers[k][1] for k in order])
        orders = [tuple(one) for one in reduced_orders(l_max, l_max)]
        places = [(u, degree, m) for u, degree in enumerate(shells) for m in range(-degree, degree + 1)]
        self.register_buffer("fill", fill, persistent=False)
        self.register_buffer("rows", torch.tensor([orders.index((d, m)) for _, d, m in places]), persistent=False)
        self.register_buffer("columns", torch.tensor([d * d + d + m for _, d, m in places]), persistent=False)
        signs = [(-1.0) ** degree * (1.0 if m >= 0 else -1.0) for _, degree, m in places]
        self.register_buffer("signs", torch.tensor(signs).unsqueeze(1), persistent=False)
        shell = torch.tensor([u for u, _, _ in places])
        self.register_buffer("same_shell", (shell[:, None] == shell[None]).double(), persistent=False)

    def forward(self, stack: Tensor, turns: Tensor) -> Tensor:
        """Compute blocks [n_pairs, width, width] in the axes of the molecule, each the transpose of that of its reverse.

        Args:
            stack: Features of pairs [2 (l_max+1), n_pairs, hidden]; the second half are the first one's other directions.
            turns: Maps to the frames of the first half of the pairs.
        """
        n_pairs = stack.shape[1]
        zeroth, odd, *orders = stack.split([1, 1] + [2] * (len(self.weights) - 2))
        parts = [zeroth[0] @ self.weights[0] + self.shift, odd[0] @ self.weights[1]]
        for weight, part in zip(list(self.weights)[2:], orders, strict=True):
            parts += (part @ weight).unbind(0)
        numbers = torch.cat(parts, dim=1)
        block = (numbers @ self.fill.to(numbers.dtype)).view(n_pairs, self.width, self.width)
        forth, back = block.split([n_pairs // 2] * 2)
        signs = self.signs.to(block.dtype)
        forth = 0.5 * (forth + back.transpose(1, 2) * (signs * signs.t()))
        turn = self.orbital_turns(turns)
        turned = torch.bmm(torch.bmm(turn.transpose(1, 2), forth), turn)
        return torch.cat([turned, turned.transpose(1, 2)])

    def orbital_turns(self, turns: Tensor) -> Tensor:
        """Maps of the orbitals of a block to the frames of the first half of the pairs [n_pairs / 2, width, width]."""
        turn = turns[:, 0].index_select(1, self.rows).index_select(2, self.columns)
        return turn * self.same_shell.to(turn.dtype)

    def turns_of_all(self, turns: Tensor) -> Tensor:
        """Maps of the orbitals of a block to the frames of all pairs [n_pairs, width, width]."""
        turn = self.orbital_turns(turns)
        return torch.cat([turn, turn * self.signs.to(turn.dtype)])


class AtomBlocks(nn.Module):
    """Blocks of atoms from their features.

    Args:
        shells: Degrees of the shells of a block.
        l_max: Highest degree of the features; parts above it are left out.
        channels: Channels of each parity.
    """

    fill: Tensor

    def __init__(self, shells: Sequence[int], l_max: int, channels: int) -> None:
        super().__init__()
        self.l_max, self.width = l_max, sum(2 * degree + 1 for degree in shells)
        parts = irreducible_parts(shells, l_max)
        counts = {key: len(found) for key, found in parts.items()}
        self.kinds = [key for key in sorted(counts) if counts[key]]
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(channels, counts[key]) / channels**0.5) for key in self.kinds]
        )
        self.shift = nn.Parameter(torch.zeros(counts[0, 0]))
        fill = [torch.stack(parts[key], dim=1).flatten(0, 1) for key in self.kinds]  # component by component, then paths
        self.register_buffer("fill", torch.cat(fill), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Compute symmetric blocks [n_atoms, width, width] from features [n_atoms, 2, (l_max+1)^2, channels]."""
        block = self.expand(features)
        return (block + block.transpose(1, 2)) * 0.5**0.5

    def expand(self, features: Tensor) -> Tensor:
        """Compute blocks that are not symmetric yet; shapes are those of `forward`."""
        parts, sizes = [], [2 * degree + 1 for degree in range(self.l_max + 1)]
        rows = [one.unbind(1) for one in features.split(sizes, dim=2)]
        for (degree, odd), weight in zip(self.kinds, self.weights, strict=True):
            mapped = rows[degree][odd] @ weight
            parts.append((mapped + self.shift if (degree, odd) == (0, 0) else mapped).flatten(1))
        return (torch.cat(parts, dim=1) @ self.fill.to(features.dtype)).view(-1, self.width, self.width)


def starts_of(shells: Sequence[int]) -> list[int]:
    """Place of the first orbital of each shell in a block."""
    return [sum(2 * degree + 1 for degree in shells[:u]) for u in range(len(shells))]


def frame_numbers(shells: Sequence[int], l_max: int) -> list[tuple[int, Tensor]]:
    """Numbers that make up a block in the frame of a pair: the row of the stack of each, and its entries [width^2].

    The rows of an order come in the same order of numbers for both parts, so that one matrix maps both.
    """
    starts, width = starts_of(shells), sum(2 * degree + 1 for degree in shells)
    half, found = 0.5**0.5, []
    for (u, l_u), (v, l_v) in ((one, two) for one in enumerate(shells) for two in enumerate(shells)):
        centre = (starts[u] + l_u, starts[v] + l_v)
        for a in range(l_u + 1):
            for b in range(l_v + 1):
                x, y = (centre[0] + a, centre[0] - a), (centre[1] + b, centre[1] - b)
                pieces = _two_orders(x, y, a, b, half) if a and b else _one_order(x, y, a, b)
                for row, entries in pieces:
                    if row // 2 <= l_max:
                        matrix = torch.zeros(width, width, dtype=torch.float64)
                        for (i, j), value in entries.items():
                            matrix[i, j] = value
                        found.append((row, matrix.flatten()))
    return found


_Pieces = list[tuple[int, dict[tuple[int, int], float]]]


def _one_order(x: tuple[int, int], y: tuple[int, int], a: int, b: int) -> _Pieces:
    """Entries of a number of order a or b, where the other order is 0."""
    if a == b == 0:
        return [(0, {(x[0], y[0]): 1.0})]
    other = (x[1], y[0]) if a else (x[0], y[1])
    return [(2 * (a + b), {(x[0], y[0]): 1.0}), (2 * (a + b) + 1, {other: 1.0})]


def _two_orders(x: tuple[int, int], y: tuple[int, int], a: int, b: int, half: float) -> _Pieces:
    """Entries of z_a z_b and of z_a conj(z_b), or its complex conjugate where b > a."""
    (p, q), (r, s) = x, y
    sign = half if a >= b else -half
    total, rest = 2 * (a + b), 2 * abs(a - b)
    return [
        (total, {(p, r): half, (q, s): -half}),
        (total + 1, {(p, s): half, (q, r): half}),
        (rest, {(p, r): half, (q, s): half}),
        (rest + 1, {(q, r): sign, (p, s): -sign}),
    ]


def irreducible_parts(shells: Sequence[int], l_max: int) -> dict[tuple[int, int], list[Tensor]]:
    """Irreducible parts of a block by degree and parity (0 true, 1 pseudo), orthonormal rows [2 l + 1, width^2]."""
    starts, width = starts_of(shells), sum(2 * degree + 1 for degree in shells)
    found: dict[tuple[int, int], list[Tensor]] = {(degree, odd): [] for degree in range(l_max + 1) for odd in (0, 1)}
    for (u, l_u), (v, l_v) in ((one, two) for one in enumerate(shells) for two in enumerate(shells)):
        for degree in range(abs(l_u - l_v), min(l_u + l_v, l_max) + 1):
            couple = three_j(l_u, l_v, degree) * (2 * degree + 1) ** 0.5
            part = torch.zeros(2 * degree + 1, width, width, dtype=torch.float64)
            rows, columns = slice(starts[u], starts[u] + 2 * l_u + 1), slice(starts[v], starts[v] + 2 * l_v + 1)
            part[:, rows, columns] = couple.permute(2, 0, 1)
            found[degree, (l_u + l_v + degree) % 2].append(part.flatten(1))
    return found
