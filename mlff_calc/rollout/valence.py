"""A valence force field of one molecule, and motion by its forces.

The energy is linear in its parameters theta,

    E(x) = sum_k theta_k phi_k(x),

so that least squares fit it to accelerations. Terms phi are, with distances d between bonded atoms and between both
neighbours of an atom, as deviations from their mean in units of their spread, torsions w, heights h of atoms with three
neighbours above the plane of these, and distances r of other pairs in units of their mean:

| terms | what |
|---|---|
| d, d^2, d^3, d^4 | bonds and angles |
| d d' | pairs of distances that share an atom |
| cos n w, d cos n w | torsions (n = 1, 2, 3), and with the distances within |
| h^2, h^4 | atoms that leave the plane of their neighbours |
| r^-1, r^-2, r^-4, r^-6 | pairs that are 3 to 6 bonds apart |

All are even: the energy does not change when the molecule is turned, shifted or mirrored. Bonds cannot break.

Source: forms of the kind of Hwang, Stockfisch and Hagler, "Derivation of class II force fields", J. Am. Chem. Soc. 116, 2515
(1994); which terms there are is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from ase import units
from torch import Tensor, nn

from mlff_calc.graph.bonds import hop_counts
from mlff_calc.ode import verlet

ORDERS, POWERS = (1, 2, 3), (1, 2, 4, 6)
"""Multiples n of torsions, and powers of inverse distances."""
MOST_APART = 6
"""Largest number of bonds between atoms whose distance has terms. Raising it knows more of how ends of chains meet, and
makes the fit slower."""
BROKEN = 12.0
"""Deviation of a distance, in units of its spread, beyond which the force field is not trusted. Raising it trusts the forces
farther from the training frames."""


class Motion(NamedTuple):
    """Motion by the forces.

    Attributes:
        positions: [n, n_times, n_atoms, 3] Angstrom.
        velocities: [n, n_times, n_atoms, 3] Angstrom/fs.
        broken: Whether the molecule has left what the force field knows by then [n, n_times].
    """

    positions: Tensor
    velocities: Tensor
    broken: Tensor


class Terms(NamedTuple):
    """Atoms of each term.

    Attributes:
        near: Pairs that are bonded or share a neighbour [n_near, 2].
        pairs: Pairs of rows of `near` that share an atom [n_pairs, 2].
        torsions: Four atoms in a row [n_torsions, 4].
        within: Rows of `torsions` and of `near` whose atoms are among the four [n_within, 2].
        planes: Atoms with three neighbours, and these [n_planes, 4].
        far: Pairs that are more bonds apart, up to `MOST_APART` [n_far, 2].
    """

    near: Tensor
    pairs: Tensor
    torsions: Tensor
    within: Tensor
    planes: Tensor
    far: Tensor

    @classmethod
    def of(cls, n_atoms: int, bonds: Sequence[Sequence[int]], straight: Sequence[Sequence[int]] = ()) -> Terms:
        """Find the terms of a molecule.

        Args:
            n_atoms: Number of atoms.
            bonds: Pairs of bonded atoms.
            straight: Angles (neighbour, atom, neighbour) that are straight; torsions over them are left out.
        """
        around: list[list[int]] = [[] for _ in range(n_atoms)]
        for i, j in bonds:
            around[i].append(j)
            around[j].append(i)
        bonded = {frozenset(bond) for bond in bonds}
        angles = {frozenset((i, k)) for near in around for i in near for k in near if i < k} - bonded
        near = sorted(tuple(sorted(pair)) for pair in bonded) + sorted(tuple(sorted(pair)) for pair in angles)
        flat = {(i, j, k) for i, j, k in straight} | {(k, j, i) for i, j, k in straight}
        torsions = [
            (a, b, c, d)
            for b, c in sorted(tuple(sorted(pair)) for pair in bonded)
            for a in sorted(around[b])
            for d in sorted(around[c])
            if len({a, b, c, d}) == 4 and (a, b, c) not in flat and (b, c, d) not in flat
        ]
        apart = hop_counts(n_atoms, [list(bond) for bond in bonds], MOST_APART)
        return cls(*(
            torch.tensor(list(rows), dtype=torch.long).view(-1, width)
            for rows, width in (
                (near, 2),
                ([(a, b) for a in range(len(near)) for b in range(a) if set(near[a]) & set(near[b])], 2),
                (torsions, 4),
                ([(t, a) for t, four in enumerate(torsions) for a, two in enumerate(near) if set(two) <= set(four)], 2),
                ([(j, *sorted(near)) for j, near in enumerate(around) if len(near) == 3], 4),
                ([(i, j) for j in range(n_atoms) for i in range(j) if 3 <= apart[i, j] <= MOST_APART], 2),
            )
        ))  # fmt: skip

    def n_terms(self) -> int:
        """Number of terms phi."""
        n = len(ORDERS)
        return (
            4 * len(self.near) + len(self.pairs) + n * (len(self.torsions) + len(self.within)) + 2 * len(self.planes)
            + len(POWERS) * len(self.far)
        )  # fmt: skip


class Parameters(NamedTuple):
    """Parameters theta by kind of term.

    Attributes:
        stretch: Of powers 1 to 4 of near distances [4, n_near].
        products: Of products of these [n_near, n_near], each product twice.
        twist: Of torsions [n_torsions, len(ORDERS)].
        coupling: Of torsions with near distances [len(ORDERS), n_torsions, n_near].
        plane: Of squares and fourth powers of heights [2, n_planes].
        far: Of inverse powers of other distances [len(POWERS), n_far].
    """

    stretch: Tensor
    products: Tensor
    twist: Tensor
    coupling: Tensor
    plane: Tensor
    far: Tensor


class Valence(nn.Module):
    """The force field; `measure.py` of the training room fits it.

    Args:
        n_atoms: Number of atoms.
        bonds: Pairs of bonded atoms.
        masses: [n_atoms], in atomic mass units.
        straight: Angles that are straight.
        step: Time step of the motion, fs.
    """

    mean: Tensor
    spread: Tensor
    apart: Tensor
    apart_spread: Tensor
    theta: Tensor
    masses: Tensor
    differences: Tensor
    rows_near: Tensor
    rows_far: Tensor
    rows_torsions: Tensor
    rows_planes: Tensor

    def __init__(
        self,
        n_atoms: int,
        bonds: Sequence[Sequence[int]],
        masses: Sequence[float],
        straight: Sequence[Sequence[int]] = (),
        step: float = 0.5,
    ) -> None:
        super().__init__()
        self.step = step
        terms = Terms.of(n_atoms, bonds, straight)
        for name, rows in terms._asdict().items():
            self.register_buffer(f"rows_{name}", rows, persistent=False)
        sizes = {
            "mean": len(terms.near), "spread": len(terms.near), "apart": len(terms.far), "apart_spread": len(terms.far),
            "theta": terms.n_terms(),
        }  # fmt: skip
        for name, size in sizes.items():
            first = torch.zeros if name in ("mean", "theta") else torch.ones  # of an energy of 0 where nothing is fitted
            self.register_buffer(name, first(size, dtype=torch.float64))
        self.register_buffer("masses", torch.tensor(masses, dtype=torch.float64), persistent=False)
        self.register_buffer("differences", _differences(n_atoms, terms), persistent=False)

    @property
    def terms(self) -> Terms:
        """Atoms of each term, on the device of the module."""
        return Terms(*(getattr(self, f"rows_{name}") for name in Terms._fields))

    def deviations(self, x: Tensor) -> Tensor:
        """Deviations of near distances from their mean, in units of their spread [..., n_near]."""
        return (lengths(x, self.terms.near) - self.mean) / self.spread

    def deviations_and_rates(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Deviations of near and far distances, and their rates per fs, in units of their spread [n, n_near + n_far]."""
        pairs = torch.cat([self.rows_near, self.rows_far])
        mean, spread = torch.cat([self.mean, self.apart]), torch.cat([self.spread, self.apart_spread])
        apart, fast = (one[..., pairs[:, 0], :] - one[..., pairs[:, 1], :] for one in (x, v))
        length = torch.linalg.vector_norm(apart, dim=-1)
        return (length - mean) / spread, (apart * fast).sum(dim=-1) / length / spread

    def phi(self, x: Tensor) -> Tensor:
        """Terms [..., n_terms] at positions [..., n_atoms, 3]."""
        terms = self.terms
        d, c = self.deviations(x), cosines(x, terms.torsions)
        square = d * d
        found = [d, square, square * d, square * square]
        found.append(d[..., terms.pairs[:, 0]] * d[..., terms.pairs[:, 1]])
        found.append(c.flatten(-2))
        found.append((d[..., terms.within[:, 1], None] * c[..., terms.within[:, 0], :]).flatten(-2))
        if len(terms.planes):
            h = heights(x, terms.planes).square()
            found += [h, h * h]
        if len(terms.far):
            r = self.apart / lengths(x, terms.far)
            found += [r**power for power in POWERS]
        return torch.cat(found, dim=-1)

    def accelerations(self, x: Tensor) -> Tensor:
        """Accelerations [n, n_atoms, 3] (Angstrom/fs^2) at positions (Angstrom), without a graph of gradients."""
        return self._pulls(x, self._by_kind())

    def _by_kind(self) -> Parameters:
        """The parameters by kind of term, those of products as matrices."""
        terms, n = self.terms, len(ORDERS)
        near, torsions, planes = len(terms.near), len(terms.torsions), len(terms.planes)
        sizes = [4 * near, len(terms.pairs), n * torsions, n * len(terms.within), 2 * planes, len(POWERS) * len(terms.far)]
        stretch, pairs, twist, within, plane, far = self.theta.split(sizes)
        products = self.theta.new_zeros(near, near)
        products[terms.pairs[:, 0], terms.pairs[:, 1]] = pairs
        coupling = self.theta.new_zeros(n, torsions, near)
        coupling[:, terms.within[:, 0], terms.within[:, 1]] = within.view(-1, n).T
        return Parameters(
            stretch.view(4, near), products + products.T, twist.view(torsions, n), coupling, plane.view(2, planes),
            far.view(len(POWERS), -1),
        )  # fmt: skip

    @torch.no_grad()
    def _pulls(self, x: Tensor, theta: Parameters) -> Tensor:
        """Accelerations, by derivatives that are written out: the number of operations is the cost of a step."""
        rows = (self.rows_near, self.rows_far, self.rows_torsions, self.rows_planes)
        near, far, torsions, planes = (len(each) for each in rows)
        between = self.differences @ x
        sizes = [near + far, torsions, torsions, torsions, planes, planes, planes]
        pairs, first, axis, last, out, one, two = between.split(sizes, dim=-2)
        length = torch.linalg.vector_norm(pairs, dim=-1)
        d = (length[..., :near] - self.mean) / self.spread
        cosine, slopes_of_torsions = _torsions(first, axis, last)
        c, slope = _chebyshev(cosine)
        start, second, third, fourth = theta.stretch
        of_d = start + d * (2.0 * second + d * (3.0 * third + d * (4.0 * fourth))) + d @ theta.products
        of_d = of_d + torch.einsum("...tn,nta->...a", c, theta.coupling)
        of_c = ((theta.twist + torch.einsum("...a,nta->...tn", d, theta.coupling)) * slope).sum(dim=-1)
        ratio = self.apart / length[..., near:]
        of_r = -sum(power * own * ratio**power for power, own in zip(POWERS, theta.far, strict=True)) / length[..., near:]
        of_pairs = torch.cat([of_d / self.spread, of_r], dim=-1) / length
        found = [of_pairs.unsqueeze(-1) * pairs, *(of_c.unsqueeze(-1) * each for each in slopes_of_torsions)]
        if planes:
            h, slopes_of_planes = _planes(out, one, two)
            of_h = h * (2.0 * theta.plane[0] + 4.0 * theta.plane[1] * h * h)
            found += [of_h.unsqueeze(-1) * each for each in slopes_of_planes]
        gradient = self.differences.mT @ torch.cat(found, dim=-2)
        return gradient * (-(units.fs**2) / self.masses[:, None])

    def forward(self, positions: Tensor, velocities: Tensor, times: Tensor) -> Motion:
        """Motion from positions and velocities [n, n_atoms, 3] (Angstrom, Angstrom/fs) to times [n, n_times] (fs).

        Steps of equal length begin at time 0, and states between their ends are interpolated: neither other times nor other
        samples change a result.
        """
        h = self.step
        number = torch.floor(times / h).long()
        share = (times / h - number)[..., None, None]
        shape = (*times.shape, *positions.shape[1:])
        x, v = positions.new_zeros(shape), positions.new_zeros(shape)
        broken = torch.zeros_like(times, dtype=torch.bool)
        wanted, last = set(number.unique().tolist()), int(number.max())
        theta = self._by_kind()
        states = verlet(lambda x: self._pulls(x, theta), positions, velocities, h)
        before = next(states)
        lost = torch.zeros(len(positions), dtype=torch.bool, device=positions.device)
        for k in range(last + 1):
            after = next(states)
            deviation = self.deviations(after[0]).abs().amax(dim=1)
            lost = lost | ~(deviation < BROKEN)
            if k in wanted:
                here = number == k
                row, column = here.nonzero(as_tuple=True)
                ends = before[0][row], before[1][row], after[0][row], after[1][row]
                x[row, column], v[row, column] = _between(*ends, share[row, column], h)
                broken |= here & lost.unsqueeze(1)
            before = after
        return Motion(x, v, broken)


def lengths(x: Tensor, pairs: Tensor) -> Tensor:
    """Distances [..., n_pairs]."""
    return torch.linalg.vector_norm(x[..., pairs[:, 0], :] - x[..., pairs[:, 1], :], dim=-1)


def cosines(x: Tensor, torsions: Tensor) -> Tensor:
    """Cosines of multiples of torsions [..., n_torsions, len(ORDERS)]."""
    a, b, c, d = (x[..., torsions[:, k], :] for k in range(4))
    axis = c - b
    one, two = torch.linalg.cross(b - a, axis), torch.linalg.cross(axis, d - c)
    size = torch.linalg.vector_norm(one, dim=-1) * torch.linalg.vector_norm(two, dim=-1)
    return _chebyshev((one * two).sum(dim=-1) / size.clamp(min=1e-9))[0]


def _chebyshev(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of the multiples `ORDERS` of an angle, and their derivatives by its cosine [..., len(ORDERS)]."""
    values, slopes = [torch.ones_like(cosine), cosine], [torch.zeros_like(cosine), torch.ones_like(cosine)]
    for _ in range(1, max(ORDERS)):
        slopes.append(2.0 * (values[-1] + cosine * slopes[-1]) - slopes[-2])
        values.append(2.0 * cosine * values[-1] - values[-2])
    found, steepness = (torch.stack([each[n] for n in ORDERS], dim=-1) for each in (values, slopes))
    return found, steepness


def heights(x: Tensor, planes: Tensor) -> Tensor:
    """Heights of atoms above the plane of their three neighbours [..., n_planes], with an arbitrary sign."""
    centre, a, b, c = (x[..., planes[:, k], :] for k in range(4))
    normal = torch.linalg.cross(b - a, c - a)
    return ((centre - a) * normal).sum(dim=-1) / torch.linalg.vector_norm(normal, dim=-1).clamp(min=1e-9)


def _differences(n_atoms: int, terms: Terms) -> Tensor:
    """Matrix from positions to the vectors of all terms [n_vectors, n_atoms].

    Vectors are those of near pairs, far pairs, the three bonds of torsions, and from the first neighbour of a plane to its
    atom and to the other two neighbours.
    """
    t, p = terms.torsions, terms.planes
    ends = [terms.near[:, [1, 0]], terms.far[:, [1, 0]], t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 3]]]
    ends += [p[:, [1, 0]], p[:, [1, 2]], p[:, [1, 3]]]
    begin, end = torch.cat(ends).unbind(dim=1)
    one = torch.eye(n_atoms, dtype=torch.float64)
    return one[end] - one[begin]


def _torsions(first: Tensor, axis: Tensor, last: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Cosines of torsions [...], and their derivatives by the three vectors [..., 3]."""
    one, two = torch.linalg.cross(first, axis), torch.linalg.cross(axis, last)
    a, b = (torch.linalg.vector_norm(each, dim=-1, keepdim=True).clamp(min=1e-6) for each in (one, two))
    one, two = one / a, two / b
    cosine = (one * two).sum(dim=-1, keepdim=True)
    by_one, by_two = (two - cosine * one) / a, (one - cosine * two) / b
    by_axis = torch.linalg.cross(by_one, first) + torch.linalg.cross(last, by_two)
    return cosine.squeeze(-1), (torch.linalg.cross(axis, by_one), by_axis, torch.linalg.cross(by_two, axis))


def _planes(out: Tensor, one: Tensor, two: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Heights [...], and their derivatives by the three vectors [..., 3]."""
    normal = torch.linalg.cross(one, two)
    size = torch.linalg.vector_norm(normal, dim=-1, keepdim=True).clamp(min=1e-6)
    normal = normal / size
    h = (out * normal).sum(dim=-1, keepdim=True)
    by_normal = (out - h * normal) / size
    return h.squeeze(-1), (normal, torch.linalg.cross(two, by_normal), torch.linalg.cross(by_normal, one))


def _between(x: Tensor, v: Tensor, y: Tensor, w: Tensor, s: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """Positions and velocities at a share s of a step from (x, v) to (y, w), by a cubic polynomial."""
    change = y - x
    bend, twist = 3.0 * change - h * (2.0 * v + w), h * (v + w) - 2.0 * change
    return x + s * (h * v + s * (bend + s * twist)), v + s * (2.0 * bend + 3.0 * s * twist) / h
