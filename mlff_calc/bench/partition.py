"""Cost of domain decomposition, counted from the atoms of a silicon supercell without running any ranks.

LAMMPS divides the box into equal bricks. If features are exchanged between layers, a rank computes only the edges of its own
atoms, so that no edge is computed twice, and ghost atoms cost only communication. The alternative is to include all ghost
atoms within reach of all layers. A rank then also computes the edges of ghosts that its own atoms reach in at most
`n_layers - 1` hops.
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
    """Count atoms, ghosts and edges of the rank with the most edges, for cubic grids of ranks.

    Args:
        n_atoms: Number of atoms of the supercell, 8 n^3.
        ranks: Numbers of ranks, which must be cubes such as 8, 64, 512.
        cutoff: Cutoff, Angstrom.
        n_layers: Number of times that neighbours are read, one after another.
        skin: Skin of the neighbour list, Angstrom.

    Returns:
        One dict per number of ranks: `n_ranks`, `n_own` and `n_ghosts` (within cutoff and skin), `n_edges`, `imbalance`
        (edges divided by their mean over ranks), `ghost_edges` (additional edges of the alternative).

    Raises:
        OptionError: A number of ranks is not a cube, or no supercell has this number of atoms.
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
    """Count the atoms, including all periodic images, in a brick that is extended by `reach` on every side."""
    total = np.ones(len(positions), dtype=int)
    for axis in range(3):
        low, high = corner[axis] - reach, corner[axis] + width + reach
        place = positions[:, axis]
        total *= (np.floor((high - place) / length) - np.ceil((low - place) / length) + 1).astype(int)
    return int(total.sum())


def _reached(
    tree: cKDTree, positions: NDArray[np.float64], own: NDArray[np.int64], cutoff: float, hops: int
) -> NDArray[np.int64]:
    """Return the atoms within `hops` hops of a rank's own atoms.

    Periodic images of an atom count once, so the result is a lower bound of the cost.
    """
    known = own
    for _ in range(hops):
        found = tree.query_ball_point(positions[known], cutoff)
        known = np.unique(np.concatenate([np.asarray(one, dtype=np.int64) for one in found] + [known]))
    return known
