"""A neighbour list that is reused while atoms move little (Verlet's skin), also in a cell that breathes.

The list is built for ``cutoff + skin`` and holds pairs ``(i, j, S)`` of the positions as given. It stays complete, that is,
it contains every pair closer than the cutoff, as long as a bound on the motion holds:

With positions ``x`` and cell ``h`` (rows), and ``x0``, ``h0`` at the last build, let ``F`` map the old cell onto the new
one, ``h0 F = h`` along periodic directions (and the identity across them), and let ``e_i = x_i - x0_i F`` be what an atom
moved beside the cell's own strain. The edge vector ``d`` of any pair then was ``d0 = (d - (e_j - e_i)) F^-1`` at the
build, so ``|d0| <= (|d| + 2 max|e|) ||F^-1||``. Every pair with ``|d| < cutoff`` was inside the list's range if

    (cutoff + 2 max|e|) ||F^-1||_2 <= cutoff + skin.

For a constant cell ``F = 1``, and this is the usual rule: no atom moved more than half the skin.

Edges are the same, to the last bit and in the same order, whether the list is fresh or reused: stored pairs are sorted by
(i, j, S), taking some of them keeps the order, and every edge vector is computed from the present positions alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlff_calc.errors import OptionError
from mlff_calc.graph.backends import resolve_backend
from mlff_calc.graph.box import MIN_DISTANCE, FloatArray, checked_arrays, spanning_cell
from mlff_calc.graph.neighbors import check_cutoff, check_overlap, neighbor_pairs
from mlff_calc.graph.order import distinct_rows


class NeighborList:
    """Pairs within a cutoff, rebuilt only when atoms or the cell have moved too far.

    Args:
        cutoff: Angstrom.
        skin: Angstrom, how much further the stored list reaches; 0 rebuilds whenever anything has moved.
        backend: see `mlff_calc.graph.backends`.
        device: where a GPU backend runs and where `edge_tensors` leaves its results.

    Attributes:
        n_updates: calls of `update`.
        n_rebuilds: how many of them built the list anew.

    Raises:
        OptionError: cutoff or skin out of range, unknown backend.
    """

    def __init__(
        self, cutoff: float, skin: float = 0.5, backend: str = "auto", device: str | torch.device = "cpu"
    ) -> None:
        self.cutoff = check_cutoff(cutoff)
        self.skin = float(skin)
        if not (np.isfinite(self.skin) and self.skin >= 0.0):
            raise OptionError(f"skin is {skin} Angstrom; give a finite number that is not negative")
        self.device = torch.device(device)
        self.backend = resolve_backend(backend, self.device)
        self.n_updates = 0
        self.n_rebuilds = 0
        self.reset()

    def reset(self) -> None:
        """Forget the stored pairs, so that the next update rebuilds; the counters stay."""
        self._built = False
        self._ids: NDArray[np.int64] | None = None
        self._build_positions: FloatArray = np.zeros((0, 3))
        self._build_cell: FloatArray = np.zeros((3, 3))
        self._positions: FloatArray = np.zeros((0, 3))
        self._cell: FloatArray = np.zeros((3, 3))
        self._pbc: NDArray[np.bool_] = np.zeros(3, dtype=bool)
        self._pairs: NDArray[np.int64] = np.zeros((2, 0), dtype=np.int64)
        self._shifts: FloatArray = np.zeros((0, 3))  # the different ones
        self._shift_of: NDArray[np.intp] = np.zeros(0, dtype=np.intp)  # which of them a pair has
        self._offsets: FloatArray = np.zeros((0, 3))  # the Cartesian shift of every pair
        self._offsets_cell: FloatArray | None = None  # for this cell
        self._scratch: tuple[FloatArray, FloatArray] | None = None
        self._device_pairs: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, positions: ArrayLike, cell: ArrayLike | None, pbc: ArrayLike, ids: ArrayLike | None = None
    ) -> bool:
        """Take in new positions.

        Args:
            positions: [n_atoms, 3] Angstrom, as they are: wrapping an atom between two calls costs a rebuild, nothing else.
            cell: [3, 3] rows are vectors, Angstrom.
            pbc: [3].
            ids: [n_atoms] integers that say who is who (atomic numbers, tags); a change rebuilds.

        Returns:
            True if the list was rebuilt.

        Raises:
            StructureError: as `neighbor_pairs`. The stored list is then gone, and the next update rebuilds.
        """
        self.n_updates += 1
        # only a valid state is reused, so a list left half way by an error can never be read
        built, self._built = self._built, False
        xyz, lattice, flags = checked_arrays(positions, cell, pbc)
        names = None if ids is None else np.array(ids, dtype=np.int64)
        reusable = (
            built
            and xyz.shape == self._build_positions.shape
            and np.array_equal(flags, self._pbc)
            and _same_ids(names, self._ids)
            and self._still_complete(xyz, lattice)
        )
        if not reusable:
            self._rebuild(xyz, lattice, flags, names)
        self._positions, self._cell = xyz, lattice
        self._built = True
        return not reusable

    def _still_complete(self, positions: FloatArray, cell: FloatArray) -> bool:
        """The bound of the module's docstring; False where in doubt."""
        periodic = self._pbc
        if np.array_equal(cell[periodic], self._build_cell[periodic]):
            moved = positions - self._build_positions
            return bool(np.einsum("ij,ij->i", moved, moved).max(initial=0.0) <= (0.5 * self.skin) ** 2)
        target = spanning_cell(self._build_cell, periodic).copy()
        inverse_old = np.linalg.inv(target)
        target[periodic] = cell[periodic]
        deformation = inverse_old @ target
        stretch = np.linalg.svd(deformation, compute_uv=False)
        if stretch[-1] <= 0.0:
            return False
        moved = positions - self._build_positions @ deformation
        if len(moved):
            moved -= moved.mean(axis=0)  # a common translation (scaling about any centre) changes no edge vector
        farthest = float(np.sqrt(np.einsum("ij,ij->i", moved, moved).max(initial=0.0)))
        return bool((self.cutoff + 2.0 * farthest) / stretch[-1] <= self.cutoff + self.skin)

    def _rebuild(
        self, positions: FloatArray, cell: FloatArray, pbc: NDArray[np.bool_], ids: NDArray[np.int64] | None
    ) -> None:
        """Fill the stored pairs from scratch."""
        pairs = neighbor_pairs(positions, cell, pbc, self.cutoff + self.skin, self.backend, device=self.device)
        self.n_rebuilds += 1
        self._pairs = np.stack([pairs.centers, pairs.neighbors])
        shifts, self._shift_of = distinct_rows(pairs.shifts)
        self._shifts = shifts.astype(np.float64)
        self._offsets = np.empty((len(self._shift_of), 3))
        self._build_positions, self._build_cell, self._pbc, self._ids = positions, cell, pbc, ids
        self._scratch = self._device_pairs = self._offsets_cell = None

    def _shift_vectors(self) -> FloatArray:
        """Cartesian vectors [n_shifts, 3] of the different shifts in the present cell, Angstrom."""
        # not a matrix product: its rounding may depend on how many rows there are, and so on when the list was built
        first, second, third = np.where(self._pbc[:, None], self._cell, 0.0)
        return self._shifts[:, :1] * first + self._shifts[:, 1:2] * second + self._shifts[:, 2:] * third

    def edges(self) -> tuple[NDArray[np.int64], FloatArray]:
        """The edges for the positions of the last update.

        Returns:
            edge_index [2, n_edges] int64 and edge_vec [n_edges, 3] float64 in Angstrom, all shorter than the cutoff,
            sorted by centre, neighbour and shift; arrays of their own.

        Raises:
            StructureError: two atoms overlap.
            OptionError: nothing to give yet, `update` was not called or failed.
        """
        self._require_built()
        centers, neighbors = self._pairs
        if self._scratch is None:  # new memory at every step would cost more than the arithmetic
            self._scratch = np.empty_like(self._offsets), np.empty_like(self._offsets)
        vectors, origins = self._scratch
        # mode "clip" writes into `out` without a buffer; indices are always in range
        if self._offsets_cell is None or not np.array_equal(self._cell, self._offsets_cell):
            np.take(self._shift_vectors(), self._shift_of, axis=0, out=self._offsets, mode="clip")
            self._offsets_cell = self._cell
        np.take(self._positions, neighbors, axis=0, out=vectors, mode="clip")
        np.take(self._positions, centers, axis=0, out=origins, mode="clip")
        vectors -= origins
        vectors += self._offsets
        squared = np.einsum("ij,ij->i", vectors, vectors)
        check_overlap(centers, neighbors, squared)
        inside = np.flatnonzero(squared < self.cutoff**2)
        return np.take(self._pairs, inside, axis=1), np.take(vectors, inside, axis=0)

    def edge_tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """As `edges`, as tensors on the list's device; on CUDA the pairs stay there between rebuilds."""
        if self.device.type == "cpu":
            index, edge_vectors = self.edges()
            return torch.from_numpy(index), torch.from_numpy(edge_vectors)
        self._require_built()
        if self._device_pairs is None:
            which = torch.from_numpy(self._shift_of).to(self.device)
            self._device_pairs = (torch.from_numpy(self._pairs).to(self.device), which)
        pairs, which = self._device_pairs
        positions = torch.from_numpy(self._positions).to(self.device)
        offsets = torch.from_numpy(self._shift_vectors()).to(self.device)
        vectors = positions[pairs[1]] - positions[pairs[0]] + offsets[which]
        squared = vectors.square().sum(dim=1)
        inside = torch.nonzero(squared < self.cutoff**2).squeeze(1)
        close = torch.nonzero(squared < MIN_DISTANCE**2).squeeze(1).cpu().numpy()
        if len(close):
            check_overlap(self._pairs[0, close], self._pairs[1, close], squared.cpu().numpy()[close])
        return pairs[:, inside], vectors[inside]

    def _require_built(self) -> None:
        """Refuse to give edges of a list that holds none."""
        if not self._built:
            raise OptionError("the neighbour list holds no structure; call update(positions, cell, pbc) first")

    def __getstate__(self) -> dict[str, object]:
        """State without scratch and tensors on a device: they are made again when needed."""
        return {**self.__dict__, "_scratch": None, "_device_pairs": None}


def _same_ids(new: NDArray[np.int64] | None, old: NDArray[np.int64] | None) -> bool:
    """True where the atoms are the same in the same order, or where nobody said who they are."""
    if new is None or old is None:
        return new is old
    return np.array_equal(new, old)
