"""Edge frames: rotations that turn an edge onto the polar axis, and their effect on features of each degree.

Degrees follow e3nn: the components of degree 1 are (x, y, z) and the polar axis is y, so the component of degree 1 with
order m = 0 is y. In the frame of an edge only rotations about y and mirror planes through y remain as symmetries. They
mix only the orders +m and -m of a degree, which is what the layers in so2.py rely on.

The frame of a direction (x, y, z) is the smallest rotation that takes it to +y, preceded by a half turn about x where y
< 0. Both are polynomials in the direction apart from 1 / (1 + |y|), so no direction is singular and none gives NaN. The
two charts differ by a rotation about the edge, to which the layers are blind.

| symbol | name in code | shape | unit |
|---|---|---|---|
| R | `rotation` | [n_edges, 3, 3] | 1 |
| D^l(R), rows of |m| <= m_max | `wigner` | [n_edges, n_reduced, (l_max + 1)^2] | 1 |

Source: Passaro and Zitnick, "Reducing SO(3) convolutions to SO(2)" (2023), Sec. 3; the two charts are our own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.nn.coupling import raising


def edge_rotations(directions: Tensor) -> Tensor:
    """Rotations [n_edges, 3, 3] that take unit `directions` [n_edges, 3] to the y axis; row 1 is the direction."""
    x, y, z = directions[:, 0], directions[:, 1], directions[:, 2]
    sign = torch.where(y >= 0.0, 1.0, -1.0).to(directions.dtype)
    upright, turned = y * sign, z * sign
    shrink = 1.0 / (1.0 + upright)
    mixed = -x * turned * shrink
    rows = [
        1.0 - x * x * shrink, -x * sign, mixed * sign,
        x, y, z,
        mixed, -turned * sign, (1.0 - turned * turned * shrink) * sign,
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).view(-1, 3, 3)


def reduced_orders(l_max: int, m_max: int) -> list[list[int]]:
    """Components [l, m] in an edge frame, sorted by m: all m = 0 by l, then for each m all +m by l and all -m by l."""
    rows = [[degree, 0] for degree in range(l_max + 1)]
    for m in range(1, m_max + 1):
        rows += [[degree, m] for degree in range(m, l_max + 1)]
        rows += [[degree, -m] for degree in range(m, l_max + 1)]
    return rows


class RaiseDegree(nn.Module):
    """Clebsch-Gordan coupling of D^(l-1) and D^1 to D^l, as one constant linear map of their outer product."""

    table: Tensor

    def __init__(self, degree: int) -> None:
        super().__init__()
        low, self.high = 2 * degree - 1, 2 * degree + 1
        couple = raising(degree)  # [2l-1, 3, 2l+1]
        table = self.high * torch.einsum("aim,bjn->abijmn", couple, couple)
        self.register_buffer("table", table.reshape(low * low * 9, self.high * self.high), persistent=False)

    def forward(self, lower: Tensor, rotation: Tensor) -> Tensor:
        """Couple `lower` [n_edges, 2l-1, 2l-1] with `rotation` [n_edges, 3, 3] to D^l [n_edges, 2l+1, 2l+1]."""
        outer = lower.flatten(1).unsqueeze(2) * rotation.flatten(1).unsqueeze(1)
        return (outer.flatten(1) @ self.table.to(outer.dtype)).view(-1, self.high, self.high)


class EdgeFrames(nn.Module):
    """Wigner matrices of edge frames, computed once per graph and shared by all layers.

    Args:
        l_max: highest degree of the features.
        m_max: highest order kept in the edge frame (at most `l_max`).
    """

    def __init__(self, l_max: int, m_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        self.n_full = (l_max + 1) ** 2
        self.orders = reduced_orders(l_max, m_max)
        self.n_reduced = len(self.orders)
        self.raises = nn.ModuleList([RaiseDegree(degree) for degree in range(2, l_max + 1)])

    def forward(self, directions: Tensor) -> Tensor:
        """Return `wigner` [n_edges, n_reduced, (l_max+1)^2] for unit `directions` [n_edges, 3]."""
        rows = [block.unbind(dim=1) for block in self.blocks(directions)]  # backward: one stack, not a sum
        padded = [
            nn.functional.pad(rows[degree][degree + m], [degree * degree, self.n_full - (degree + 1) ** 2])
            for degree, m in self.orders
        ]
        return torch.stack(padded, dim=1)

    def blocks(self, directions: Tensor) -> list[Tensor]:
        """Return D^l [n_edges, 2l+1, 2l+1] of all degrees for unit `directions` [n_edges, 3]."""
        rotation = edge_rotations(directions)
        blocks = [torch.ones(rotation.shape[0], 1, 1, dtype=rotation.dtype, device=rotation.device)]
        if self.l_max >= 1:
            blocks.append(rotation)
        for raise_degree in self.raises:
            blocks.append(raise_degree(blocks[-1], rotation))
        return blocks
