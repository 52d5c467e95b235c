"""Points of a grid near the nuclei of their molecule, with the functions on which densities are projected.

Around each centre there are products of K radial functions and harmonics of degrees up to l_max,

    B_klm(r) = sqrt(2) sin(k pi r / c) t(r)^(l-1) u(r / c) Y_lm(r / |r|),        t = r / sqrt(r^2 + b^2),        k = 1..K,

with the cutoff c and an envelope u. The factor t makes all of them smooth at the nucleus, where they are r^l Y_lm times
even functions of r. They depend on no density and no weight, so that they are computed once for a geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.nn.edges import safe_lengths
from mlff_calc.nn.harmonics import SphericalHarmonics
from mlff_calc.nn.radial import BesselBasis, PolynomialEnvelope

SOFT = 0.5
"""Length b, Bohr. Raising it gives more of the scalar functions to the core, and smoother functions at the nucleus."""


class Near(NamedTuple):
    """Points within the cutoff of centres. Rows are filled up with the first point, where all functions are zero.

    Attributes:
        points: Numbers of points [n_centres, n_most].
        basis: Functions at them [n_centres, n_most, (l_max+1)^2 * K], the radial function fastest.
        squares: Squares of distances [n_centres, n_most], Bohr^2.
        fade: Envelope [n_centres, n_most].
    """

    points: Tensor
    basis: Tensor
    squares: Tensor
    fade: Tensor

    @property
    def n_bytes(self) -> int:
        """Size of the tensors."""
        return sum(one.nbytes for one in self)

    @classmethod
    def join(cls, parts: Sequence[Near], counts: Sequence[int]) -> Near:
        """Put those of several grids with `counts` points behind each other."""
        most, rows = max(one.points.shape[1] for one in parts), sum(one.points.shape[0] for one in parts)
        joined = cls(*(each.new_zeros((rows, most, *each.shape[2:])) for each in parts[0]))
        row = first = 0
        for one, count in zip(parts, counts, strict=True):
            n, width = one.points.shape
            for whole, each in zip(joined, one, strict=True):  # each is copied once: the functions are large
                whole[row : row + n, :width] = each
            joined.points[row : row + n] += first
            row, first = row + n, first + count
        return joined


class NearFunctions(nn.Module):
    """Computes the functions of points near centres.

    Args:
        cutoff: Distance at which they end, Bohr.
        filters: Number of radial functions.
        l_max: Highest degree.
    """

    def __init__(self, cutoff: float, filters: int, l_max: int) -> None:
        super().__init__()
        self.cutoff = float(cutoff)
        self.radial = BesselBasis(cutoff, filters)
        self.envelope = PolynomialEnvelope(cutoff)
        self.harmonics = SphericalHarmonics(l_max)

    def forward(
        self, positions: Tensor, centres: Tensor, system: Tensor | None = None, centre_system: Tensor | None = None
    ) -> Near:
        """Find the points near centres and compute the functions, differentiable by both positions.

        Args:
            positions: Points [n_points, 3], Bohr.
            centres: Centres [n_centres, 3], Bohr.
            system: Number of the molecule of each point, rising; None for one molecule.
            centre_system: The same of centres.
        """
        n_centres = centres.shape[0]
        owner, point = pairs_within(self.cutoff, centres.detach(), positions.detach(), centre_system, system)
        counts = torch.bincount(owner, minlength=n_centres)
        most = int(counts.max()) if owner.numel() else 0
        place = torch.arange(owner.shape[0], device=owner.device) - (counts.cumsum(0) - counts).index_select(0, owner)
        place = place + owner * most
        vectors = positions.index_select(0, point) - centres.index_select(0, owner)
        distances = safe_lengths(vectors)
        fade = self.envelope(distances).clamp(min=0.0)  # rounding makes it negative at the cutoff, and shares of it huge
        radial = self.radial(distances) * (distances * fade * self.cutoff**-0.5).unsqueeze(1)
        t = (distances / torch.sqrt(distances * distances + SOFT * SOFT)).unsqueeze(1)
        harmonics = self.harmonics(vectors / distances.unsqueeze(1))
        parts = [1.0 / t] + [
            harmonics[:, degree * degree - 1 : (degree + 1) ** 2 - 1] * t ** (degree - 1)
            for degree in range(1, self.harmonics.l_max + 1)
        ]
        basis = (torch.cat(parts, dim=1).unsqueeze(2) * radial.unsqueeze(1)).flatten(1)

        def rows(values: Tensor) -> Tensor:
            filled = values.new_zeros((n_centres * most, *values.shape[1:])).index_copy(0, place, values)
            return filled.view(n_centres, most, *values.shape[1:])

        return Near(rows(point), rows(basis), rows(distances * distances), rows(fade))


def pairs_within(
    cutoff: float, centres: Tensor, positions: Tensor, centre_system: Tensor | None, system: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Numbers of centres and positions of a molecule that are nearer than the cutoff, both [n_pairs], centre by centre."""
    device = positions.device
    if system is None or centre_system is None:
        counts = torch.full((centres.shape[0],), positions.shape[0], device=device)
        begin = counts.new_zeros(counts.shape)
    else:
        sizes = torch.bincount(system, minlength=int(centre_system.max()) + 1 if centre_system.numel() else 0)
        counts, begin = sizes[centre_system], (sizes.cumsum(0) - sizes)[centre_system]
    owner = torch.arange(centres.shape[0], device=device).repeat_interleave(counts)
    first = begin - (counts.cumsum(0) - counts)
    other = torch.arange(owner.shape[0], device=device) + first.index_select(0, owner)
    between = positions.index_select(0, other) - centres.index_select(0, owner)
    near = (between * between).sum(dim=1) < cutoff * cutoff
    return owner[near], other[near]
