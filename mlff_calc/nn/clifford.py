"""The Clifford algebra Cl(3,0): multivectors of eight blades, their geometric product, and layers that commute with O(3).

A multivector has the grades 0 (scalar), 1 (vector), 2 (bivector) and 3 (pseudoscalar), with the blades

    1 | e1, e2, e3 | e23, e31, e12 | e123,      e_i e_i = 1,   e_i e_j = -e_j e_i,   u v = u . v + u ^ v  for vectors u, v.

A bivector e23 stands for the plane normal to e1, so grade 2 has the components of an axial vector. An orthogonal map w
of space acts on the grades separately, as 1, w, det(w) w and det(w). It commutes with the product and with all layers
here. Grades 0 to 3 have the parities +, -, +, -, and the product of two odd ones is even.

The product of grades i and k has parts in up to two grades j. There are 20 such paths, each with one weight per
channel. Every blade of the result is a sum of eight products of blades, so the whole product is one multiplication of
the right factor by a constant matrix of signs, followed by one contraction.

| symbol | name in code | shape |
|---|---|---|
| multivectors | `left`, `right`, `features` | [8, n, channels] |
| signs of e_i e_k = s_ik e_j | `product_table` | [8 (i), 8 (j), 8 (k)] |
| w_ijk | `GeometricProduct.weight` | [20, channels] |

The blade is the first dimension, so that an operation on blades or grades is one product for all rows and channels.

Source: Ruhe, Brandstetter, Forre, "Clifford group equivariant neural networks" (2023), Sec. 4. Norms are smooth here
(with `EPS` under the root), whereas those of the paper have a kink at zero that would show in forces.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLADES = (0b000, 0b001, 0b010, 0b100, 0b110, 0b101, 0b011, 0b111)
"""Basis vectors contained in each blade, one bit each."""
ORIENTATIONS = (1, 1, 1, 1, 1, -1, 1, 1)
"""Sign of each blade relative to the product of its vectors in ascending order; e31 = -e13 has -1."""
GRADES = (0, 1, 1, 1, 2, 2, 2, 3)
"""Grade of each blade."""
N_PATHS = 20
"""Number of combinations of three grades whose product is not zero, each of which has a weight."""
EPS = 0.1
"""Constant whose square under every root makes norms smooth at zero. Raising it damps small features more."""


def product_table() -> Tensor:
    """Signs [8, 8, 8]: entry [i, j, k] is the component of e_i e_k along e_j."""
    table = torch.zeros(8, 8, 8)
    for i, left in enumerate(BLADES):
        for k, right in enumerate(BLADES):
            swaps = sum(bin(right & ((1 << bit) - 1)).count("1") for bit in range(3) if left >> bit & 1)
            j = BLADES.index(left ^ right)
            sign = ORIENTATIONS[i] * ORIENTATIONS[k] * ORIENTATIONS[j]
            table[i, j, k] = sign * (-1) ** swaps
    return table


def grade_paths() -> list[tuple[int, int, int]]:
    """Paths (i, j, k), the grades of left factor, result and right factor, sorted by the grade of the result."""
    found = {(GRADES[i], GRADES[j], GRADES[k]) for i, j, k in product_table().nonzero().tolist()}
    return sorted(found, key=lambda path: (path[1], path[0], path[2]))


def geometric_product(left: Tensor, right: Tensor) -> Tensor:
    """Geometric product of multivectors [8, ...] of the same shape, with all weights 1."""
    return torch.einsum("i...,ijk,k...->j...", left, product_table().to(left), right)


def grade_selector() -> Tensor:
    """Matrix [8, 4] of zeros and ones that maps blades to grades."""
    return torch.eye(4)[torch.tensor(GRADES)]


class GeometricProduct(nn.Module):
    """Geometric product per channel, with one weight for each of the 20 paths.

    Args:
        channels: channels of both factors and of the result.
    """

    signs: Tensor
    paths: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        table, known = product_table(), grade_paths()
        paths = torch.zeros(8, 8, N_PATHS)
        for i, j, k in table.nonzero().tolist():
            paths[i, j, known.index((GRADES[i], GRADES[j], GRADES[k]))] = 1.0
        self.register_buffer("signs", table.view(64, 8), persistent=False)
        self.register_buffer("paths", paths.view(64, N_PATHS), persistent=False)
        self.weight = nn.Parameter(torch.randn(N_PATHS, channels) / 2.0)  # variance 1 / (3 + 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Multiply `left` and `right`, both [8, n, channels]."""
        n, channels = left.shape[1], left.shape[2]
        partners = (self.signs.to(right.dtype) @ right.reshape(8, n * channels)).view(8, 8, n, channels)
        weights = (self.paths.to(left.dtype) @ self.weight).view(8, 8, 1, channels)
        return (left.unsqueeze(1) * (partners * weights)).sum(dim=0)


class GradeMap(nn.Module):
    """Sums over the blades of each grade, and the reverse map."""

    selector: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("selector", grade_selector(), persistent=False)

    def squares(self, features: Tensor) -> Tensor:
        """Return the squared norms of the grades [4, n, channels] of `features` [8, n, channels]."""
        n, channels = features.shape[1], features.shape[2]
        flat = (features * features).reshape(8, n * channels)
        return (self.selector.to(features.dtype).t() @ flat).view(4, n, channels)

    def spread(self, values: Tensor) -> Tensor:
        """Copy `values` of grades [4, n, channels] to their blades [8, n, channels]."""
        n, channels = values.shape[1], values.shape[2]
        return (self.selector.to(values.dtype) @ values.reshape(4, n * channels)).view(8, n, channels)


class MVLinear(nn.Module):
    """Linear map of channels with one matrix per grade and a bias on scalars.

    Args:
        in_channels, out_channels: channels per blade.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.grades = GradeMap()
        self.weight = nn.Parameter(torch.randn(4, in_channels, out_channels) * in_channels**-0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map [8, n, in_channels] to [8, n, out_channels]."""
        bias = nn.functional.pad(self.bias.view(1, 1, -1), [0, 0, 0, 0, 0, 7])
        return torch.baddbmm(bias, features, self.grades.spread(self.weight))


class MVSiLU(nn.Module):
    """Gate on every grade: the sigmoid of its own invariant, which is the scalar itself or the squared norm.

    Args:
        channels: channels per blade.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.grades = GradeMap()
        self.scale = nn.Parameter(torch.ones(4, 1, channels))
        self.shift = nn.Parameter(torch.zeros(4, 1, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Gate [8, n, channels]."""
        invariants = torch.cat([features[:1], self.grades.squares(features)[1:]])
        return features * self.grades.spread(torch.sigmoid(torch.addcmul(self.shift, self.scale, invariants)))


class GradeNorm(nn.Module):
    """Normalization of each grade and channel by a learned mean of its norm and 1 (an equal mean at the start).

    Args:
        channels: channels per blade.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.grades = GradeMap()
        self.share = nn.Parameter(torch.zeros(4, 1, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Normalize [8, n, channels]."""
        norms = torch.sqrt(self.grades.squares(features) + EPS * EPS)
        share = torch.sigmoid(self.share)
        return features * self.grades.spread(torch.reciprocal(torch.addcmul(1.0 - share, share, norms)))


class MVLayerNorm(nn.Module):
    """Normalization by the root mean squareof norms over channels, with one learned factor per channel.

    Args:
        channels: channels per blade.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Normalize [8, n, channels]."""
        power = (features * features).sum(dim=0).mean(dim=1, keepdim=True)
        return features * torch.rsqrt(power + EPS * EPS) * self.scale


class GeometricProductLayer(nn.Module):
    """Linear map plus the product of the features with another linear map of them, divided by the root of 2.

    Args:
        channels: channels per blade.
        normalize: whether a `GradeNorm` bounds the right factor, so that outputs grow linearly and not quadratically
            with inputs.
    """

    def __init__(self, channels: int, normalize: bool = True) -> None:
        super().__init__()
        self.channels = channels
        self.linear = MVLinear(channels, 2 * channels)
        self.norm = GradeNorm(channels) if normalize else nn.Identity()
        self.product = GeometricProduct(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map [8, n, channels] to the same shape."""
        both = self.linear(features)
        right = self.norm(both[:, :, self.channels :])
        return (both[:, :, : self.channels] + self.product(features, right)) * 0.5**0.5


class CEMLP(nn.Module):
    """Clifford-equivariant perceptron: two blocks of linear map, gate, geometric product and normalization.

    Args:
        in_channels, hidden, out_channels: channels per blade.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in ((in_channels, hidden), (hidden, out_channels)):
            layers += [MVLinear(fan_in, fan_out), MVSiLU(fan_out), GeometricProductLayer(fan_out), MVLayerNorm(fan_out)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Map [8, n, in_channels] to [8, n, out_channels]."""
        return self.layers(features)


class VectorProduct(nn.Module):
    """Matrices of the map x -> x r for vectors r, to multiply rows of multivectors [n, 8, channels] by a vector."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", product_table()[:, :, 1:4].permute(2, 1, 0).reshape(3, 64), persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return [n, 8, 8] for `vectors` [n, 3]; each is a symmetric matrix whose square is |r|^2."""
        return (vectors @ self.table.to(vectors.dtype)).view(-1, 8, 8)
