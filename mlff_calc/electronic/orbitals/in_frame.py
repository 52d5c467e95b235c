"""Blocks of pairs from features that stay in the frame of the pair, without Clebsch-Gordan coefficients.

In the frame the pair points along the polar axis, and components (+m, -m) are a complex number z_m = x_+m + i x_-m that a
turn about the axis multiplies by exp(i m phi). Orbitals (l1, m1) and (l2, m2) couple to m1 + m2 and m1 - m2:

    sqrt(2) p = (T_++ - T_--) + i (T_+- + T_-+)        sqrt(2) q = (T_++ + T_--) + i (T_-+ - T_+-)

Each p and q is a linear map of features of the same |m|, of all degrees and channels. A mirror plane through the axis takes
true z to its conjugate and pseudo z to minus that, so that i z of pseudo features stands beside z of true ones. At m1 = m2
the imaginary part of q is odd under mirrors, and comes from pseudo features of order 0. Blocks are turned out of the frame
by the matrices of their shells, D^l1(F)^T T D^l2(F).

| symbol | name in code | shape |
|---|---|---|
| D(F), rows of |m| <= m_max | `wigner` (nn/frames.py) | [n_pairs, n_reduced, (l_max+1)^2] |
| p, q | components | [n_pairs, n_components] |
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn

from mlff_calc.electronic.orbitals.element_weights import ElementWeights
from mlff_calc.electronic.orbitals.groups import RowGroups
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import OptionError
from mlff_calc.nn.frames import reduced_orders


class FrameBlocks(nn.Module):
    """Blocks of pairs from features in the frames of pairs; not yet symmetric (`assembly.symmetric_blocks`).

    Maps are common to all elements. Both elements scale the channels before and the components after them.

    Args:
        basis: Basis of the orbitals.
        l_max: Highest degree of the features.
        m_max: Highest order of the features; blocks are complete if it reaches twice the highest degree of a shell.
        channels: Channels of the features.
        pseudo: Whether there are pseudo features.
        bias: Whether blocks have a part that depends on elements alone.

    Raises:
        OptionError: The order does not reach the highest degree of a shell.
    """

    first: Tensor
    second: Tensor
    signs: Tensor
    turn: Tensor
    mask: Tensor

    def __init__(
        self, basis: OrbitalBasis, l_max: int, m_max: int, channels: int, pseudo: bool = True, bias: bool = True
    ) -> None:
        super().__init__()
        if m_max < basis.l_max:
            raise OptionError(f"m_max is {m_max}; shells of degree {basis.l_max} need at least this order")
        self.l_max, self.m_max, self.channels, self.pseudo = l_max, m_max, channels, pseudo
        self.width = basis.width
        table = _Components(basis, m_max, pseudo)
        self.counts = [len(shells) for shells in table.shells]  # even and odd ones of order 0, then by order
        fans = [(l_max + 1) * channels] * 2 + [
            (l_max + 1 - m) * channels * (2 if pseudo else 1) for m in range(1, m_max + 1)
        ]
        self.maps = nn.ParameterList(
            [nn.Parameter(torch.randn(fan, n) / math.sqrt(fan)) for fan, n in zip(fans, self.counts, strict=True)]
        )
        self.n_bias = self.counts[0] if bias else 0
        self.n_gates = channels * (2 if pseudo else 1)
        self.weights = ElementWeights(len(basis.elements), 2, self.n_gates + sum(self.counts) + self.n_bias)
        for name in ("first", "second", "signs"):
            self.register_buffer(name, torch.from_numpy(getattr(table, name)), persistent=False)
        self.register_buffer("turn", torch.from_numpy(_turn_places(basis, l_max, m_max)), persistent=False)
        mask = _shell_mask(basis, [shell for each in table.shells for shell in each])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, groups: RowGroups, wigner: Tensor, true: Tensor, pseudo: Tensor | None = None) -> Tensor:
        """Blocks [n_pairs, width, width] in the axes of space.

        Args:
            groups: The pairs by kind (`layout.pair_groups`).
            wigner: Matrices of the frames of directions in the axes (y, z, x) [n_pairs, n_reduced, (l_max+1)^2].
            true: Features of parity (-1)^l in the frames [n_pairs, n_reduced, channels], in `reduced_orders`.
            pseudo: Features of parity -(-1)^l, of the same shape.

        Raises:
            OptionError: Pseudo features are missing or not expected, or shapes do not fit.
        """
        n, n_reduced = len(groups), len(reduced_orders(self.l_max, self.m_max))
        if self.pseudo != (pseudo is not None):
            raise OptionError(f"the module was made with pseudo={self.pseudo}; give pseudo features accordingly")
        for given, last in ((wigner, (self.l_max + 1) ** 2), (true, self.channels), (pseudo, self.channels)):
            if given is not None and tuple(given.shape) != (n, n_reduced, last):
                raise OptionError(f"a tensor of pairs has shape {tuple(given.shape)}; give ({n}, {n_reduced}, {last})")
        weights = self.weights(groups.kinds)
        gates, scales, shift = weights.split([self.n_gates, sum(self.counts), self.n_bias], dim=1)
        mask = self.mask.index_select(0, groups.kinds).to(weights.dtype)
        kind = torch.repeat_interleave(
            torch.arange(len(groups.kinds), device=wigner.device),
            torch.tensor(groups.counts, device=wigner.device, dtype=torch.int64),
        ).index_select(0, groups.back)
        gates = (1.0 + 0.5 * gates).index_select(0, kind).unsqueeze(1)
        scales = (scales * mask).index_select(0, kind)
        components = self._components(true * gates[..., : self.channels], pseudo, gates[..., self.channels :], scales)
        if self.n_bias:
            extra = (shift * mask[:, : self.n_bias]).index_select(0, kind)
            components[0] = components[0] + extra
        joined = nn.functional.pad(torch.cat(components, dim=1), [0, 1])
        signs = self.signs.to(joined.dtype)
        block = joined.index_select(1, self.first) * signs[0] + joined.index_select(1, self.second) * signs[1]
        turn = nn.functional.pad(wigner.flatten(1), [0, 1]).index_select(1, self.turn).view(n, self.width, self.width)
        return turn.mT @ block.view(n, self.width, self.width) @ turn

    def _components(self, true: Tensor, pseudo: Tensor | None, gates: Tensor, scales: Tensor) -> list[Tensor]:
        """Components of order 0, even and odd under mirrors, then real and imaginary ones of each order."""
        n, width = true.shape[0], self.l_max + 1
        sizes = [width, *(width - m for m in range(1, self.m_max + 1) for _ in range(2))]
        parts = true.split(sizes, dim=1)  # the derivative of a split is one copy, that of slices a sum
        mirrored = None if pseudo is None else (pseudo * gates).split(sizes, dim=1)
        scale = scales.split(self.counts, dim=1)
        found = [(parts[0].reshape(n, -1) @ self.maps[0]) * scale[0]]
        if mirrored is not None:
            found.append((mirrored[0].reshape(n, -1) @ self.maps[1]) * scale[1])
        for m in range(1, self.m_max + 1):
            plus, minus = parts[2 * m - 1], parts[2 * m]
            if mirrored is not None:
                plus = torch.cat([plus, -mirrored[2 * m]], dim=1)
                minus = torch.cat([minus, mirrored[2 * m - 1]], dim=1)
            found += [(half.reshape(n, -1) @ self.maps[m + 1]) * scale[m + 1] for half in (plus, minus)]
        return found


class _Components:
    """Which components the entries of a block in the frame consist of.

    Attributes:
        shells: Shells (l1, u, l2, v) of each component: even ones of order 0, odd ones of order 0, then by order.
        first, second: Component of each entry [width^2]; the number of components where there is none.
        signs: Factors of both [2, width^2].
    """

    def __init__(self, basis: OrbitalBasis, m_max: int, pseudo: bool) -> None:
        counts = basis.multiplicities
        starts = np.cumsum([0, *(n * (2 * degree + 1) for degree, n in enumerate(counts))])
        self.shells: list[list[tuple[int, int, int, int]]] = [[] for _ in range(m_max + 2)]
        half = math.sqrt(0.5)
        uses: dict[int, list[tuple[tuple[int, int, bool], float]]] = {}  # entry: (part, number, imaginary) and factor

        def new(part: int, shell: tuple[int, int, int, int]) -> tuple[int, int] | None:
            """A new component, unless the features do not have it."""
            if part >= len(self.shells) or (part == 1 and not pseudo):
                return None
            self.shells[part].append(shell)
            return part, len(self.shells[part]) - 1

        for l1, l2 in itertools.product(range(len(counts)), repeat=2):
            for u, v in itertools.product(range(counts[l1]), range(counts[l2])):
                shell = (l1, u, l2, v)
                row, column = int(starts[l1]) + u * (2 * l1 + 1) + l1, int(starts[l2]) + v * (2 * l2 + 1) + l2

                def use(place: tuple[int, int], found: tuple[int, int] | None, imaginary: bool, factor: float) -> None:
                    used = uses.setdefault((row + place[0]) * basis.width + column + place[1], [])  # noqa: B023
                    if found is not None:
                        used.append(((*found, imaginary), factor))

                for m1, m2 in itertools.product(range(l1 + 1), range(l2 + 1)):
                    if m1 == 0 or m2 == 0:
                        found = new(m1 + m2 + 1 if m1 + m2 else 0, shell)
                        use((m1, m2), found, False, 1.0)
                        if m1 + m2:
                            use((-m1, -m2), found, True, 1.0)
                        continue
                    high = new(m1 + m2 + 1, shell)
                    low = new(abs(m1 - m2) + 1 if m1 != m2 else 0, shell)
                    odd, sign = (low, math.copysign(1.0, m1 - m2)) if m1 != m2 else (new(1, shell), 1.0)
                    for place, upper, lower in (((m1, m2), half, half), ((-m1, -m2), -half, half)):
                        use(place, high, False, upper)
                        use(place, low, False, lower)
                    for place, upper, lower in (((m1, -m2), half, -half * sign), ((-m1, m2), half, half * sign)):
                        use(place, high, True, upper)
                        use(place, odd, m1 != m2, lower)
        sizes = [len(self.shells[0]), len(self.shells[1]), *(2 * len(each) for each in self.shells[2:])]
        offsets = np.cumsum([0, *sizes])
        places = np.full((2, basis.width**2), offsets[-1], dtype=np.int64)
        self.signs = np.zeros((2, basis.width**2))
        for entry, used in uses.items():
            for k, ((part, number, imaginary), factor) in enumerate(used):
                places[k, entry] = offsets[part] + number + (len(self.shells[part]) if imaginary else 0)
                self.signs[k, entry] = factor
        self.first, self.second = places


def _turn_places(basis: OrbitalBasis, l_max: int, m_max: int) -> np.ndarray:
    """Place in `wigner` of each entry of the matrix of padded orbitals [width^2]; one past the end for zeros."""
    orders = reduced_orders(l_max, m_max)
    n_full = (l_max + 1) ** 2
    places = np.full((basis.width, basis.width), len(orders) * n_full, dtype=np.int64)
    start = 0
    for degree, count in enumerate(basis.multiplicities):
        size = 2 * degree + 1
        rows = np.array([orders.index([degree, m]) for m in range(-degree, degree + 1)])
        for _ in range(count):
            inside = slice(start, start + size)
            places[inside, inside] = rows[:, None] * n_full + degree * degree + np.arange(size)
            start += size
    return places.reshape(-1)


def _shell_mask(basis: OrbitalBasis, shells: list[tuple[int, int, int, int]]) -> Tensor:
    """Which components have shells of both elements [n_elements^2, n_components]."""
    counts = np.array([[degrees.count(degree) for degree in range(basis.l_max + 1)] for _, degrees in basis.shells])
    l1, u, l2, v = np.array(shells).T
    left, right = counts[:, l1] > u, counts[:, l2] > v
    return torch.from_numpy((left[:, None] & right[None]).reshape(-1, len(shells)))
