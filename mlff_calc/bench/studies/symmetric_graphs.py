"""Small graphs with a finite symmetry group, and the degrees in which this symmetry forces sums to vanish.

Let H be the group of the orthogonal matrices that map a structure, centred on its mean, to itself. The sum of an equivariant
network's features of degree l over the structure is invariant under H, so that it lies in the image of the mean

    M_l = 1/|H| sum_{h in H} rho_l(h),      trace M_l = 1/|H| sum_{h in H} chi_l(h),
    chi_l(h) = det(h)^l (1 + 2 sum_{m=1..l} cos(m theta_h)),

a projection whose trace is the number of invariants of degree l. If the trace is 0, the sum is 0 in every orientation, and
features of this degree cannot distinguish the structure from a rotated copy. The features have parity (-1)^l, and theta_h is
the angle of the rotation det(h) h.

Source: Cen et al., "Are high-degree representations really unnecessary in equivariant graph neural networks?" (2024).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.near import suggestion
from mlff_calc.nn.harmonics import SphericalHarmonics

STRUCTURES = (
    "2-fold", "3-fold", "5-fold", "10-fold", "tetrahedron", "cube", "octahedron", "dodecahedron", "icosahedron",
)  # fmt: skip
HIGHEST_FOLD = 20
"""Largest number of spokes. Larger values would allow larger groups, whose computation takes longer."""
TOLERANCE = 1e-9
"""Distance below which points coincide; larger values accept approximate symmetries."""
_GOLDEN = (1.0 + math.sqrt(5.0)) / 2.0


@dataclass(frozen=True)
class SymmetricGraph:
    """Points and edges of a structure.

    Attributes:
        name: Name of the structure, see `symmetric_graph`.
        positions: Points [n, 3] float64; the farthest points are at distance 1 from the mean.
        edge_index: Edges [2, n_edges] int64 in both directions, with receivers in row 0 and sorted by it.
    """

    name: str
    positions: Tensor
    edge_index: Tensor


def symmetric_graph(name: str) -> SymmetricGraph:
    """Return a structure by its name.

    `k-fold` is a centre with k spokes of length 1 in the xy plane; its edges join the centre and the ends of the spokes. The
    points of a polyhedron are its vertices, and all pairs of them are edges.

    Raises:
        OptionError: There is no structure of that name, or the number of spokes is out of range.
    """
    if name in _POLYHEDRA:
        points = torch.tensor(_POLYHEDRA[name](), dtype=torch.float64)
        points = points / points.norm(dim=1, keepdim=True)
        receivers, senders = torch.nonzero(~torch.eye(len(points), dtype=torch.bool), as_tuple=True)
        return SymmetricGraph(name, points, torch.stack([receivers, senders]))
    match = re.fullmatch(r"(\d+)-fold", name)
    if match is None:
        hint = suggestion(name, STRUCTURES, after=" ")
        msg = f"unknown structure {name!r}: {hint}There are k-fold, such as 3-fold, and {', '.join(_POLYHEDRA)}"
        raise OptionError(msg)
    k = int(match[1])
    if not 2 <= k <= HIGHEST_FOLD:
        msg = f"structure {name!r} has {k} spokes; give 2 to {HIGHEST_FOLD} of them, as in 3-fold"
        raise OptionError(msg)
    angles = 2.0 * math.pi * torch.arange(k, dtype=torch.float64) / k
    spokes = torch.stack([torch.cos(angles), torch.sin(angles), torch.zeros_like(angles)], dim=1)
    ends, centre = torch.arange(1, k + 1), torch.zeros(k, dtype=torch.int64)
    edge_index = torch.stack([torch.cat([centre, ends]), torch.cat([ends, centre])])
    return SymmetricGraph(name, torch.cat([spokes.new_zeros((1, 3)), spokes]), edge_index)


def symmetry_group(positions: Tensor) -> Tensor:
    """Return the orthogonal matrices [order, 3, 3] that map the points to themselves, including reflections.

    The full group of points in a plane or on a line is found only in part: axes along which the points have no extent are
    mapped to themselves, so that points on a line give D2h, without the rotations about the line. This suffices, since
    quantities that average to zero over a subgroup also do so over the whole group.

    Args:
        positions: Points [n, 3] float64; their mean is the centre.
    """
    points, labels = _labelled_points(positions)
    products = points @ points.t()
    base = _independent(points)
    choices = [torch.nonzero(labels == labels[index]).squeeze(1) for index in base]
    images = torch.cartesian_prod(*choices)
    fits = torch.ones(len(images), dtype=torch.bool)
    for a in range(3):
        for b in range(a + 1):
            wanted = products[base[a], base[b]]
            fits &= (products[images[:, a], images[:, b]] - wanted).abs() < TOLERANCE
    targets = points[images[fits]].transpose(1, 2)  # columns are the images of the base
    matrices = targets @ torch.linalg.inv(points[base].t())
    moved = torch.einsum("gab,nb->gna", matrices, points)
    gaps = (moved.unsqueeze(2) - points).norm(dim=3)  # [order, n, n]
    same = labels.unsqueeze(1) == labels
    kept = ((gaps < 1e3 * TOLERANCE) & same).any(dim=2).all(dim=1)
    return matrices[kept]


def n_invariants(group: Tensor, degree: int) -> int:
    """Return the dimension of the features of `degree`, with parity (-1)^degree, that are invariant under `group`.

    Args:
        group: Orthogonal matrices [order, 3, 3].
        degree: Degree of the features.
    """
    signs = torch.linalg.det(group).round()
    rotations = signs.view(-1, 1, 1) * group
    cosines = (rotations.diagonal(dim1=1, dim2=2).sum(dim=1) - 1.0) / 2.0
    angles = torch.arccos(cosines.clamp(-1.0, 1.0))
    orders = torch.arange(1, degree + 1, dtype=group.dtype)
    characters = signs**degree * (1.0 + 2.0 * torch.cos(angles.unsqueeze(1) * orders).sum(dim=1))
    return round(float(characters.mean()))


def pooled_harmonics(positions: Tensor, degree: int) -> float:
    """Return the length of the sum of Y^degree, with |Y| = 1, over the directions of points [n, 3] from their mean.

    A point at the mean has no direction and contributes 0.
    """
    offsets = positions - positions.mean(dim=0)
    lengths = offsets.norm(dim=1, keepdim=True)
    outside = lengths.squeeze(1) > TOLERANCE
    harmonics = SphericalHarmonics(degree)(offsets[outside] / lengths[outside])
    return float(harmonics[:, degree * degree - 1 :].sum(dim=0).norm())


def open_degrees(graph: SymmetricGraph, degrees: Sequence[int]) -> set[int]:
    """Return those of `degrees` that have an invariant under the group of a graph, and so can distinguish orientations."""
    group = symmetry_group(graph.positions)
    return {degree for degree in degrees if n_invariants(group, degree) > 0}


def _labelled_points(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return points relative to their mean, and both ends of each axis without extent, which get separate labels."""
    offsets = positions - positions.mean(dim=0)
    offsets = offsets[offsets.norm(dim=1) > TOLERANCE]
    _, sizes, axes = torch.linalg.svd(offsets, full_matrices=True)
    flat = axes[int((sizes > TOLERANCE).sum()) :]
    labels = [torch.zeros(len(offsets), dtype=torch.int64)]
    labels += [torch.full((2,), number + 1, dtype=torch.int64) for number in range(len(flat))]
    return torch.cat([offsets, *[torch.stack([axis, -axis]) for axis in flat]]), torch.cat(labels)


def _independent(points: Tensor) -> Tensor:
    """Return the indices [3] of the first points that span space."""
    chosen: list[int] = []
    for index in range(len(points)):
        if int(torch.linalg.matrix_rank(points[[*chosen, index]], tol=1e-6)) > len(chosen):
            chosen.append(index)
    return torch.tensor(chosen[:3])


def _cube() -> list[list[float]]:
    return [[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]


def _cyclic(points: list[list[float]]) -> list[list[float]]:
    return [[*point[shift:], *point[:shift]] for point in points for shift in range(3)]


_POLYHEDRA: dict[str, Callable[[], list[list[float]]]] = {
    "tetrahedron": lambda: [point for point in _cube() if point[0] * point[1] * point[2] > 0.0],
    "cube": _cube,
    "octahedron": lambda: _cyclic([[sign, 0.0, 0.0] for sign in (-1.0, 1.0)]),
    "dodecahedron": lambda: (
        _cube() + _cyclic([[0.0, a / _GOLDEN, b * _GOLDEN] for a in (-1.0, 1.0) for b in (-1.0, 1.0)])
    ),
    "icosahedron": lambda: _cyclic([[0.0, a, b * _GOLDEN] for a in (-1.0, 1.0) for b in (-1.0, 1.0)]),
}
