"""Bonds about which a part of a molecule can move as a whole, and random moves of many molecules at once.

A hinge is a bond i-j that is in no ring, with the smaller part of the molecule on the side of j. Three moves of this part
leave all other bonds and angles within both parts as they are: along the bond, about the normal of the plane of the bond
and an atom h beside i (the angle h-i-j), and about the bond (the torsion). Hinges are found once for each molecule, by
distances; moves are drawn for the k-th hinge of all molecules of a batch at once.

| noise | hinges | moves |
|---|---|---|
| `fractional` | bonds that can turn | torsions |
| `bond_angle_torsion` | all | lengths, angles, and torsions, which are wider at bonds that can turn |

Source: Feng et al., "Fractional denoising for 3D molecular pre-training" (2023); Ni et al., "Sliced denoising: a
physics-informed molecular pre-training method" (2024), whose scales are the defaults. Bonds in rings do not move here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from ase.data import covalent_radii
from numpy.typing import NDArray
from torch import Tensor

from mlff_calc.graph.bonds import bonds_of
from mlff_calc.graph.keys import Graph
from mlff_calc.pretraining.keys import HINGE_ATOMS, HINGE_SCALES, HINGES

SHORT = 0.93
"""Factor of the sum of covalent radii below which a bond is double and does not turn. Raising it turns fewer bonds."""


class Scales(NamedTuple):
    """Standard deviations of moves.

    Attributes:
        bond: Lengths, Angstrom.
        angle: Angles, radian.
        torsion: Torsions about bonds that can turn, radian.
        fixed_torsion: Torsions about all other bonds, radian.
    """

    bond: float
    angle: float
    torsion: float
    fixed_torsion: float


class Hinges(NamedTuple):
    """Hinges of one molecule.

    Attributes:
        atoms: Atoms i, j, h of each [n_hinges, 3]; h is -1 where i has no other neighbour.
        turns: Whether a torsion about it changes the molecule freely [n_hinges].
        moved: Atoms on the side of j [n_atoms, n_hinges].
    """

    atoms: NDArray[np.int64]
    turns: NDArray[np.bool_]
    moved: NDArray[np.bool_]


def hinges_of(numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> Hinges:
    """Find the hinges of a molecule.

    Args:
        numbers: Atomic numbers [n_atoms].
        positions: [n_atoms, 3] Angstrom.
    """
    bonds = bonds_of(numbers, positions[None])
    around: list[set[int]] = [set() for _ in numbers]
    for i, j in bonds:
        around[i].add(j)
        around[j].add(i)
    atoms, turns, sides = [], [], []
    for i, j in bonds:
        side = _side(around, i, j)
        if i in side:
            continue
        if 2 * len(side) > len(numbers):
            i, j, side = j, i, _side(around, j, i)
        others = sorted(around[i] - {j})
        length = float(np.linalg.norm(positions[i] - positions[j]))
        single = length > SHORT * (covalent_radii[numbers[i]] + covalent_radii[numbers[j]])
        atoms.append([i, j, others[0] if others else -1])
        turns.append(bool(single and others and len(around[j]) > 1))
        sides.append([k in side for k in range(len(numbers))])
    moved = np.array(sides, dtype=bool).reshape(len(atoms), len(numbers)).T
    return Hinges(np.array(atoms, dtype=np.int64).reshape(-1, 3), np.array(turns, dtype=bool), moved)


def _side(around: Sequence[set[int]], i: int, j: int) -> set[int]:
    """Atoms that are reached from j without the bond i-j; i is among them if the bond is in a ring."""
    found, new = {j}, {j}
    while new:
        new = {k for one in new for k in around[one] if not (one == j and k == i)} - found
        found |= new
    return found


def with_hinges(graphs: Sequence[Graph], scales: Scales) -> list[Graph]:
    """Add the hinges of molecules to their graphs, as many to each as the largest molecule has.

    Args:
        graphs: Graphs of one molecule each.
        scales: Standard deviations of the moves; hinges that never move are left out.
    """
    found = []
    for graph in graphs:
        one = hinges_of(graph["atomic_numbers"].numpy(), graph["positions"].numpy())
        torsions = np.where(one.turns, scales.torsion, scales.fixed_torsion)
        angles = np.where(one.atoms[:, 2] >= 0, scales.angle, 0.0)
        widths = np.stack([np.full(len(torsions), scales.bond), angles, torsions], axis=1)
        kept = widths.any(axis=1)
        found.append((one.atoms[kept], widths[kept], one.moved[:, kept]))
    most = max(len(atoms) for atoms, _, _ in found)
    result = []
    for graph, (atoms, widths, moved) in zip(graphs, found, strict=True):
        more = ((0, most - len(atoms)), (0, 0))
        own = {
            HINGES: torch.from_numpy(np.pad(atoms, more, constant_values=-1)).unsqueeze(0),
            HINGE_SCALES: torch.from_numpy(np.pad(widths, more)).unsqueeze(0),
            HINGE_ATOMS: torch.from_numpy(np.pad(moved, (more[1], more[0]))),
        }
        result.append(graph | own)
    return result


def moved_about_hinges(graph: Graph, generator: torch.Generator) -> Tensor:
    """Positions after random moves about all hinges, one after another [n_atoms, 3] (Angstrom, float64).

    Args:
        graph: Graph with hinges; see `with_hinges`.
        generator: Source of the moves, on the device of the graph.
    """
    positions, index, hinges = graph["positions"], graph["system_index"], graph[HINGES]
    scales, n_systems = graph[HINGE_SCALES], hinges.shape[0]
    drawn = scales * torch.randn(scales.shape, generator=generator, device=scales.device, dtype=torch.float64)
    sizes = torch.bincount(index, minlength=n_systems)
    atoms = hinges.clamp(min=0) + (sizes.cumsum(0) - sizes).view(-1, 1, 1)
    for k in range(hinges.shape[1]):
        i, j, h = (positions.index_select(0, atoms[:, k, one]) for one in range(3))
        axis = _unit(j - i)
        bond, angle, torsion = drawn[:, k].unbind(1)
        turn = torch.bmm(_rotation(_unit(torch.linalg.cross(h - i, axis)), angle), _rotation(axis, torsion))
        shift = i + bond.unsqueeze(1) * torch.bmm(turn, axis.unsqueeze(2)).squeeze(2)
        arms = positions - i.index_select(0, index)
        there = torch.bmm(turn.index_select(0, index), arms.unsqueeze(2)).squeeze(2) + shift.index_select(0, index)
        positions = torch.where(graph[HINGE_ATOMS][:, k : k + 1], there, positions)
    return positions


def _unit(vectors: Tensor) -> Tensor:
    """Vectors [n, 3] of length one; zero where they have none."""
    return vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-9)


def _rotation(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotations [n, 3, 3] about unit vectors [n, 3] by angles [n]; the identity where the axis is zero."""
    zero = torch.zeros_like(angle)
    x, y, z = axis.unbind(1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    sine, rest = torch.sin(angle).view(-1, 1, 1), (1.0 - torch.cos(angle)).view(-1, 1, 1)
    return torch.eye(3, dtype=axis.dtype, device=axis.device) + sine * cross + rest * torch.bmm(cross, cross)
