"""Radial distribution functions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlff_calc.errors import OptionError
from mlff_calc.graph.neighbors import neighbor_pairs


def radial_distribution(
    frames: Iterable[Atoms], cutoff: float, n_bins: int = 200, pair: tuple[str, str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the radial distribution function g(r), averaged over frames; g is 1 in an ideal gas.

    g(r) = V / (N_A N_B) * n(r) / (4 pi r^2 dr), with n(r) the number of B atoms in the shell around all A atoms, and
    N_A (N_A - 1) pairs where A and B are the same element. Images of the periodic cell count, so the cutoff may be larger
    than half the cell; a pair of an atom with its own image counts as well.

    Args:
        frames: Structures that are periodic in three directions.
        cutoff: Largest distance, Angstrom.
        n_bins: Number of shells.
        pair: Elements (A, B); None uses all atoms.

    Returns:
        Centres of the shells, Angstrom, [n_bins]; g(r), [n_bins].

    Raises:
        OptionError: There are no frames, a frame is not periodic in three directions, an element does not occur, or the
            cutoff or the number of shells is not positive.
    """
    if not cutoff > 0.0 or n_bins < 1:
        raise OptionError(f"cutoff = {cutoff}, n_bins = {n_bins}: both must be positive. Give for example 6.0 and 200.")
    edges = np.linspace(0.0, cutoff, n_bins + 1)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    total, n_frames = np.zeros(n_bins), 0
    for atoms in frames:
        total += _one_frame(atoms, cutoff, edges, pair) / shells
        n_frames += 1
    if n_frames == 0:
        raise OptionError("a radial distribution needs at least one frame, got none. Check the trajectory.")
    return 0.5 * (edges[1:] + edges[:-1]), total / n_frames


def _one_frame(atoms: Atoms, cutoff: float, edges: np.ndarray, pair: tuple[str, str] | None) -> np.ndarray:
    """Count the pairs in each shell, divided by the number of pairs in a unit volume at the mean density."""
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise OptionError(
            f"a radial distribution needs a density, and this frame has pbc {atoms.pbc.tolist()}. "
            "Give frames that are periodic in three directions."
        )
    numbers = atoms.numbers
    is_a, is_b = (np.ones(len(atoms), dtype=bool),) * 2
    if pair is not None:
        is_a, is_b = (_select(numbers, element) for element in pair)
    i, j, shifts = neighbor_pairs(atoms.positions, atoms.cell[:], atoms.pbc, cutoff, min_distance=0.0)
    distances = np.linalg.norm(atoms.positions[j] - atoms.positions[i] + shifts @ atoms.cell[:], axis=1)
    kept = is_a[i] & is_b[j]
    counts, _ = np.histogram(distances[kept], bins=edges)
    n_pairs = int(is_a.sum()) * int(is_b.sum()) - int((is_a & is_b).sum())
    if n_pairs == 0:
        raise OptionError("a radial distribution needs two atoms, and this frame has one. Give a larger cell.")
    return counts * atoms.cell.volume / n_pairs


def _select(numbers: np.ndarray, element: str) -> np.ndarray:
    chosen = numbers == atomic_numbers.get(element, -1)
    if not chosen.any():
        raise OptionError(f"element {element} is not in the frames. Choose one of those that are.")
    return chosen
