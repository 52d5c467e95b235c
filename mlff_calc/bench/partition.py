"""What domains cost, counted from the atoms of a silicon supercell: no ranks needed.

LAMMPS cuts the box into equal bricks. With features exchanged, a rank has its own atoms and their edges, so that no edge is
computed twice; ghosts are communication. With ghost atoms within all layers' reach instead, a rank also has the edges of the
ghosts that its own atoms see through one layer fewer than there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mlff_calc.bench.systems import silicon
from mlff_calc.errors import OptionError


def partition_work(
    n_atoms: int, ranks: Sequence[int], *, cutoff: float, n_layers: int, skin: float = 0.5
) -> list[dict[str, Any]]:
    """Atoms, ghosts and edges of the rank that has most of them, for cubic grids of ranks.

    Args:
        n_atoms: of the supercell, 8 n^3.
        ranks: cubes of whole numbers, such as 8, 64, 512.
        cutoff: Angstrom.
        n_layers: message-passing layers.
        skin: Angstrom.

    Returns:
        One dict per number of ranks: `n_ranks`, `n_own` and `n_ghosts` (within cutoff and skin), `n_edges`, `imbalance`
        (edges over the mean), `ghost_edges` (what the other way computes in addition).

    Raises:
        OptionError: a number of ranks that is no cube, or domains too small to count.
    """
    atoms = silicon(n_atoms)
    length = float(atoms.cell.lengths()[0])
    positions = atoms.positions % length
    tree = cKDTree(positions, boxsize=length)
    degree = np.array([len(found) - 1 for found in tree.query_ball_point(positions, cutoff)])
    rows = []
    for n_ranks in ranks:
        side = round(n_ranks ** (1 / 3))
        if side**3 != n_ranks:
            raise OptionError(f"{n_ranks} ranks are no cube; give 1, 8, 27, 64, ...")
        brick = np.minimum((positions * side / length).astype(int), side - 1) @ [side * side, side, 1]
        edges = np.bincount(brick, weights=degree, minlength=n_ranks)
        worst = int(edges.argmax())
        own = np.flatnonzero(brick == worst)
        corner = np.array(np.unravel_index(worst, (side, side, side))) * length / side
        n_ghosts = _images_within(positions, length, corner, length / side, cutoff + skin) - len(own)
        reached = _reached(tree, positions, own, cutoff, n_layers - 1)
        rows.append(
            {
                "n_ranks": n_ranks,
                "n_own": len(own),
                "n_ghosts": n_ghosts,
                "n_edges": int(edges[worst]),
                "imbalance": float(edges[worst] / edges.mean()),
                "ghost_edges": int(degree[reached].sum() - degree[own].sum()),
            }
        )
    return rows


def _images_within(
    positions: NDArray[np.float64], length: float, corner: NDArray[np.float64], width: float, reach: float
) -> int:
    """Atoms and periodic images in a brick that is `reach` larger on every side; each image counts."""
    total = np.ones(len(positions), dtype=int)
    for axis in range(3):
        low, high = corner[axis] - reach, corner[axis] + width + reach
        place = positions[:, axis]
        total *= (np.floor((high - place) / length) - np.ceil((low - place) / length) + 1).astype(int)
    return int(total.sum())


def _reached(
    tree: cKDTree, positions: NDArray[np.float64], own: NDArray[np.int64], cutoff: float, hops: int
) -> NDArray[np.int64]:
    """Atoms within so many hops of a rank's own; periodic images of one atom count once, which is less than they cost."""
    known = own
    for _ in range(hops):
        found = tree.query_ball_point(positions[known], cutoff)
        known = np.unique(np.concatenate([np.asarray(one, dtype=np.int64) for one in found] + [known]))
    return known
