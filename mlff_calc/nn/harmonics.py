"""Real spherical harmonics as polynomials of a direction, each degree computed from the one below.

    Y^l(r) = (1 / c_l) sum_{mn} C^{l-1,1,l}_{mn} Y^{l-1}_m(r) r_n,     Y^1(r) = (x, y, z),

with the Clebsch-Gordan coefficients C of e3nn and c_l such that Y^l of the polar axis is 1 at order 0. Components, axes
(polar axis y) and signs are those of e3nn. |Y^l| = 1 (its normalization `norm`), so <Y^l(a), Y^l(b)> is the Legendre
polynomial P_l(cos(a, b)). Each degree takes one outer product and one product with a constant matrix. Nothing is
divided, so no direction is special and the derivatives are polynomials too. At the zero vector all degrees above zero
are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.nn.coupling import raising

LANES = 16
"""Width that matrices are padded to a multiple of. On CPUs this makes products up to twice as fast."""


class NextDegree(nn.Module):
    """Computes Y^l from Y^(l-1) and the direction, as one constant linear map of their outer product.

    Rows are padded with zeros to a multiple of `LANES`. Both factors of the outer product are repeated by products with
    matrices of zeros and ones, which is faster than broadcasting.
    """

    table: Tensor
    repeat_lower: Tensor
    repeat_axes: Tensor

    def __init__(self, degree: int) -> None:
        super().__init__()
        n_lower, n_here = 2 * degree - 1, 2 * degree + 1
        couple = raising(degree)  # [2l-1, 3, 2l+1]
        table = (couple / couple[degree - 1, 1, degree]).reshape(3 * n_lower, n_here)
        repeat_lower = torch.eye(n_lower, dtype=torch.float64).repeat_interleave(3, dim=1)
        repeat_axes = torch.eye(3, dtype=torch.float64).repeat(1, n_lower)
        n_rows = 3 if degree == 2 else lanes(n_lower)
        for name, matrix, rows, columns in (
            ("table", table, lanes(3 * n_lower), lanes(n_here)),
            ("repeat_lower", repeat_lower, n_rows, lanes(3 * n_lower)),
            ("repeat_axes", repeat_axes, 3, lanes(3 * n_lower)),
        ):
            more = [0, columns - matrix.shape[1], 0, rows - matrix.shape[0]]
            self.register_buffer(name, nn.functional.pad(matrix, more), persistent=False)

    def forward(self, lower: Tensor, directions: Tensor) -> Tensor:
        """Couple `lower` [n, lanes(2l-1)] with `directions` [n, 3]; at degree 2, `lower` are the directions themselves.

        Returns:
            Y^l [n, lanes(2l+1)].
        """
        dtype = lower.dtype
        outer = (lower @ self.repeat_lower.to(dtype)) * (directions @ self.repeat_axes.to(dtype))
        return outer @ self.table.to(dtype)


class SphericalHarmonics(nn.Module):
    """Degrees 1 to `l_max` of directions, in e3nn order and normalization `norm`.

    Args:
        l_max: highest degree, 0 to 11.
    """

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        self.n_components = (l_max + 1) ** 2 - 1
        self.degrees = nn.ModuleList([NextDegree(degree) for degree in range(2, l_max + 1)])

    def forward(self, directions: Tensor) -> Tensor:
        """Return [n, (l_max+1)^2 - 1] for unit `directions` [n, 3]."""
        if self.l_max == 0:
            return directions[:, :0]
        parts = [directions]
        filled = directions
        for degree, next_degree in enumerate(self.degrees, start=2):
            filled = next_degree(filled, directions)
            parts.append(filled[:, : 2 * degree + 1])
        return torch.cat(parts, dim=1)


def degree_selector(l_max: int) -> Tensor:
    """Matrix [(l_max+1)^2 - 1, l_max] of zeros and ones that maps components of degrees above zero to their degrees."""
    degree_of = [degree for degree in range(1, l_max + 1) for _ in range(2 * degree + 1)]
    columns = torch.eye(l_max)
    return columns[torch.tensor(degree_of, dtype=torch.long) - 1] if degree_of else columns


def lanes(n: int) -> int:
    """Round `n` up to a multiple of `LANES`."""
    return n + -n % LANES


class Degrees(nn.Module):
    """Sums over the components of a degree, and the reverse map, for padded features [n, wide].

    Args:
        l_max: highest degree.
        copies: number of copies of each degree, side by side.
    """

    selector: Tensor

    def __init__(self, l_max: int, copies: int) -> None:
        super().__init__()
        self.width = copies * ((l_max + 1) ** 2 - 1)
        self.wide = lanes(self.width)
        self.n_degrees = copies * l_max
        selector = torch.kron(torch.eye(copies), degree_selector(l_max).t().contiguous())
        self.register_buffer("selector", nn.functional.pad(selector, [0, self.wide - self.width]), persistent=False)

    def sums(self, products: Tensor) -> Tensor:
        """Map components [n, wide] to sums by degree and copy [n, n_degrees]."""
        return products @ self.selector.to(products.dtype).t()

    def spread(self, values: Tensor) -> Tensor:
        """Map values by degree and copy [n, n_degrees] to components [n, wide]."""
        return values @ self.selector.to(values.dtype)

    def places(self, first: int, n_columns: int) -> Tensor:
        """Matrix [wide, n_columns] that writes the sums by degree into the columns from `first` on."""
        return nn.functional.pad(self.selector.t(), [first, n_columns - first - self.n_degrees])
