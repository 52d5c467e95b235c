"""Neighbour lists of many structures at once, as one graph: for relaxations and trajectories in a batch.

Pairs are kept by system and joined; a system is looked through again when one of its own atoms has moved by half the skin.
Small molecules keep all their pairs and are never looked through again. The cells do not change.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mlff_calc.errors import OptionError, StructureError
from mlff_calc.graph import keys
from mlff_calc.graph.backends import resolve_backend
from mlff_calc.graph.box import FloatArray, check_cell, check_positions
from mlff_calc.graph.keys import Graph
from mlff_calc.graph.neighbors import check_cutoff, pairs_between, pairs_inside, shift_vectors

SMALL = 24
"""Largest number of atoms of a structure without periodicity that keeps all its pairs. Raising it saves searches, and
costs distances of pairs that are too far apart."""


class _Pairs(NamedTuple):
    """Pairs of one system by its own numbers of atoms, and what their images add to the vectors."""

    edges: NDArray[np.int64]
    offsets: FloatArray


class NeighborLists:
    """Pairs within a cutoff of several systems.

    Args:
        numbers: Atomic numbers [n_atoms], system after system.
        sizes: Number of atoms of each system [n_systems], at least one each.
        cells: Cell vectors as rows [n_systems, 3, 3], Angstrom.
        pbc: Periodicity [n_systems, 3].
        cutoff: Angstrom.
        skin: Angstrom that stored pairs reach beyond the cutoff; larger ones are searched for less often, and more pairs are
            measured in every step.
        backend: Program that searches, see `mlff_calc.graph.backends`.

    Attributes:
        n_rebuilds: Number of searches, each of one system.

    Raises:
        OptionError: Cutoff or skin out of range.
        StructureError: A cell that cannot be periodic; sizes that do not fit.
    """

    def __init__(
        self,
        numbers: NDArray[np.int64],
        sizes: NDArray[np.int64],
        cells: FloatArray,
        pbc: NDArray[np.bool_],
        cutoff: float,
        skin: float = 0.5,
        backend: str = "auto",
    ) -> None:
        self.cutoff, self.skin = check_cutoff(cutoff), float(skin)
        if not (np.isfinite(self.skin) and self.skin >= 0.0):
            raise OptionError(f"skin is {skin} Angstrom; give a finite number that is not negative")
        if len(sizes) == 0 or sizes.min() < 1 or sizes.sum() != len(numbers):
            raise StructureError(f"systems of {sizes.tolist()} atoms do not make up {len(numbers)} atomic numbers")
        for cell, flags in zip(cells, pbc, strict=True):
            check_cell(cell, flags)
        self.backend = resolve_backend(backend, torch.device("cpu"))
        self.sizes, self.starts = sizes, np.concatenate([[0], np.cumsum(sizes)])
        self.cells, self.pbc = cells, pbc
        self.n_rebuilds = 0
        self._whole = ~pbc.any(axis=1) & (sizes <= SMALL)
        self._built = np.full((len(numbers), 3), np.inf)  # positions at the last search
        self._pairs: list[_Pairs] = [_Pairs(np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3)))] * len(sizes)
        self._joined: _Pairs | None = None
        self._constant: Graph = {
            keys.ATOMIC_NUMBERS: torch.from_numpy(numbers),
            keys.SYSTEM_INDEX: torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            keys.CELL: torch.from_numpy(cells),
            keys.PBC: torch.from_numpy(pbc),
        }

    def graph(self, positions: FloatArray) -> Graph:
        """The graph of all systems.

        Args:
            positions: [n_atoms, 3] Angstrom, wrapped or not; an atom that is wrapped between two calls costs a search.

        Raises:
            StructureError: Positions that are not finite, atoms that overlap.
        """
        check_positions(positions)
        for number in self._stale(positions):
            self._search(int(number), positions)
        if self._joined is None:
            shifted = [pairs.edges + start for pairs, start in zip(self._pairs, self.starts[:-1], strict=True)]
            offsets = np.concatenate([pairs.offsets for pairs in self._pairs])
            self._joined = _Pairs(np.concatenate(shifted, axis=1), offsets)
        index, offsets = self._joined
        inside, vectors = pairs_inside(index, positions, offsets, self.cutoff)
        return {
            **self._constant,
            keys.POSITIONS: torch.from_numpy(positions),
            keys.EDGE_INDEX: torch.from_numpy(index.take(inside, axis=1)),
            keys.EDGE_VEC: torch.from_numpy(vectors),
        }

    def _stale(self, positions: FloatArray) -> NDArray[np.intp]:
        """Numbers of the systems whose stored pairs may be incomplete."""
        moved = positions - self._built
        farthest = np.maximum.reduceat(np.einsum("ij,ij->i", moved, moved), self.starts[:-1])
        allowed = np.where(self._whole, np.finfo(float).max, (0.5 * self.skin) ** 2)
        return (farthest > allowed).nonzero()[0]

    def _search(self, number: int, positions: FloatArray) -> None:
        """Rebuild the pairs of one system."""
        atoms = slice(self.starts[number], self.starts[number + 1])
        xyz, cell, flags = positions[atoms], self.cells[number], self.pbc[number]
        if self._whole[number]:
            n_atoms = len(xyz)
            centers, neighbors = (~np.eye(n_atoms, dtype=bool)).nonzero()
            self._pairs[number] = _Pairs(np.stack([centers, neighbors]), np.zeros((len(centers), 3)))
        else:
            found = pairs_between(xyz, cell, flags, self.cutoff + self.skin, self.backend)
            offsets = shift_vectors(found.shifts.astype(np.float64), cell, flags)
            self._pairs[number] = _Pairs(np.stack([found.centers, found.neighbors]), offsets)
        self._built[atoms] = xyz
        self._joined = None
        self.n_rebuilds += 1
