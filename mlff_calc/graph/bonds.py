"""Bonds of a molecule, and classes of atoms that they cannot tell apart."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

BOND = 1.25
"""Factor of the sum of covalent radii up to which atoms are bonded. Raising it bonds atoms that are farther apart."""
HOPS = 3
"""Largest number of bonds between atoms that networks are told; farther ones are all alike."""


def bonds_of(numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> list[list[int]]:
    """Pairs of bonded atoms [[i, j], ...], i < j, by the mean distances of frames.

    Args:
        numbers: Atomic numbers [n].
        positions: [n_frames, n, 3] Angstrom.
    """
    some = positions[np.linspace(0, len(positions) - 1, min(len(positions), 100)).astype(int)]
    distances = np.linalg.norm(some[:, :, None] - some[:, None, :], axis=-1).mean(axis=0)
    radii = covalent_radii[numbers]
    near = np.triu(distances < BOND * (radii[:, None] + radii[None, :]), 1)
    return [[int(i), int(j)] for i, j in np.argwhere(near)]


def hop_counts(n: int, bonds: list[list[int]], most: int = HOPS) -> NDArray[np.int64]:
    """Number of bonds between atoms [n, n], up to `most`; `most` + 1 where there are more or none."""
    found = np.full((n, n), most + 1, dtype=np.int64)
    adjacent = np.zeros((n, n), dtype=np.int64)
    for i, j in bonds:
        adjacent[i, j] = adjacent[j, i] = 1
    reached = np.eye(n, dtype=np.int64)
    for hops in range(most + 1):
        found = np.where((reached > 0) & (found > most), hops, found)
        reached = (reached @ adjacent > 0).astype(np.int64)
    return found


def atom_classes(numbers: NDArray[np.int64], bonds: list[list[int]]) -> NDArray[np.int64]:
    """Classes of atoms [n], from 1: atoms of one class have the same element and equal bonded surroundings of any extent."""
    n = len(numbers)
    neighbours: list[list[int]] = [[] for _ in range(n)]
    for i, j in bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    colours = _ranked([(int(z),) for z in numbers])
    for _ in range(n):
        finer = _ranked([(colours[i], *sorted(colours[j] for j in neighbours[i])) for i in range(n)])
        if max(finer) == max(colours):
            break
        colours = finer
    return np.array(colours, dtype=np.int64)


def _ranked(keys: list[tuple[int, ...]]) -> list[int]:
    order = {key: number + 1 for number, key in enumerate(sorted(set(keys)))}
    return [order[key] for key in keys]
