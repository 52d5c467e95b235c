"""A neighbour list that is reused while atoms move little (Verlet's skin), also in a cell that changes.

The list is built for ``cutoff + skin`` and holds pairs ``(i, j, S)`` of the positions as given. It is complete, that
is, it contains every pair closer than the cutoff, as long as a bound on the motion holds.

With positions ``x`` and cell ``h`` (rows), and ``x0``, ``h0`` at the last build, let ``F`` map the old cell onto the new
one, ``h0 F = h`` along periodic directions (and the identity across them), and let ``e_i = x_i - x0_i F`` be what an atom
moved in addition to the strain of the cell. The edge vector ``d`` of any pair then was ``d0 = (d - (e_j - e_i)) F^-1``
at the build, so ``|d0| <= (|d| + 2 max|e|) ||F^-1||``. Every pair with ``|d| < cutoff`` was inside the list's range if

    (cutoff + 2 max|e|) ||F^-1||_2 <= cutoff + skin.

For a constant cell ``F = 1``, and this is the usual rule: no atom moved more than half the skin.

Edges are the same, to the last bit and in the same order, whether the list is fresh or reused. Stored pairs are sorted
by (i, j, S), selecting some of them keeps the order, and every edge vector is computed from the present positions
alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlff_calc.errors import OptionError
from mlff_calc.graph import keys
from mlff_calc.graph.backends import resolve_backend
from mlff_calc.graph.box import MIN_DISTANCE, FloatArray, spanning_cell
from mlff_calc.graph.frame import Frame, System, equal
from mlff_calc.graph.keys import Graph
from mlff_calc.graph.neighbors import check_cutoff, check_overlap, pairs_between, pairs_inside, shift_vectors
from mlff_calc.graph.order import distinct_rows


class NeighborList:
    """Pairs within a cutoff, rebuilt only when atoms or the cell have moved too far.

    Args:
        cutoff: cutoff radius (Angstrom).
        skin: distance (Angstrom) by which the stored list exceeds the cutoff. Raising it makes rebuilds rarer and each
            step slower; 0 rebuilds whenever anything has moved.
        backend: name of a backend, see `mlff_calc.graph.backends`.
        device: device that a GPU backend runs on, and of the results of `edge_tensors`.

    Attributes:
            n_updates: number of calls of `update`.
            n_rebuilds: number of those calls that rebuilt the list.

    Raises:
        OptionError: cutoff or skin is out of range, or the backend is unknown.
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
        self._built: Frame | None = None  # frame of the last build
        self._frame: Frame | None = None  # frame of the last update
        self._pairs: NDArray[np.int64] = np.zeros((2, 0), dtype=np.int64)
        self._shifts: FloatArray = np.zeros((0, 3))  # distinct shifts
        self._shift_of: NDArray[np.intp] = np.zeros(0, dtype=np.intp)  # index of each pair's shift
        self._offsets: FloatArray = np.zeros((0, 3))  # Cartesian shift of every pair
        self._offsets_cell: FloatArray | None = None  # cell of these offsets
        self._scratch: tuple[FloatArray, FloatArray] | None = None
        self._device_pairs: tuple[torch.Tensor, torch.Tensor] | None = None
        self._last_index: tuple[NDArray[np.intp], torch.Tensor] | None = None
        self._constants: tuple[System, Graph] | None = None

    def update(
        self, positions: ArrayLike, cell: ArrayLike | None, pbc: ArrayLike, ids: ArrayLike | None = None
    ) -> bool:
        """Accept new positions.

        Args:
            positions: positions [n_atoms, 3], Angstrom, as they are. Wrapping an atom between two calls only costs a
                rebuild.
            cell: cell vectors as rows [3, 3], Angstrom.
            pbc: periodicity [3].
            ids: integers [n_atoms] that identify atoms (atomic numbers, tags); a change causes a rebuild.

        Returns:
            True if the list was rebuilt.

        Raises:
            StructureError: see `neighbor_pairs`. The stored list is dropped, and the next update rebuilds.
        """
        built, self._built = self._built, None  # an error below leaves no list
        frame = Frame.of(np.zeros(len(np.atleast_1d(positions))) if ids is None else ids, positions, cell, pbc)
        self._built = built
        return self.follow(frame)

    def follow(self, frame: Frame) -> bool:
        """`update` for a frame that is already checked; the frame is kept.

        Returns:
            True if the list was rebuilt.

        Raises:
            StructureError: atoms overlap. The stored list is dropped.
        """
        self.n_updates += 1
        # a list left half built by an error must never be reused
        built, self._built = self._built, None
        reusable = built is not None and self._still_complete(built, frame)
        if not reusable:
            self._rebuild(frame)
            built = frame
        self._built, self._frame = built, frame
        return not reusable

    def _still_complete(self, built: Frame, frame: Frame) -> bool:
        """Whether the system is the same and the motion within the bound of the module's docstring."""
        periodic = frame.pbc
        if frame.system is built.system:
            same_cell = True
        elif equal(frame.numbers, built.numbers) and equal(periodic, built.pbc):
            same_cell = np.array_equal(frame.cell[periodic], built.cell[periodic])
        else:
            return False
        if same_cell:
            moved = frame.positions - built.positions
            return bool(np.einsum("ij,ij->i", moved, moved).max(initial=0.0) <= (0.5 * self.skin) ** 2)
        target = spanning_cell(built.cell, periodic).copy()
        inverse_old = np.linalg.inv(target)
        target[periodic] = frame.cell[periodic]
        deformation = inverse_old @ target
        stretch = np.linalg.svd(deformation, compute_uv=False)
        if stretch[-1] <= 0.0:
            return False
        moved = frame.positions - built.positions @ deformation
        if len(moved):
            moved -= moved.mean(axis=0)  # a common translation (scaling about any centre) changes no edge vector
        farthest = float(np.sqrt(np.einsum("ij,ij->i", moved, moved).max(initial=0.0)))
        return bool((self.cutoff + 2.0 * farthest) / stretch[-1] <= self.cutoff + self.skin)

    def _rebuild(self, frame: Frame) -> None:
        """Fill the stored pairs from scratch."""
        reach = self.cutoff + self.skin
        pairs = pairs_between(frame.positions, frame.cell, frame.pbc, reach, self.backend, device=self.device)
        self.n_rebuilds += 1
        self._pairs = np.stack([pairs.centers, pairs.neighbors])
        shifts, self._shift_of = distinct_rows(pairs.shifts)
        self._shifts = shifts.astype(np.float64)
        self._offsets = np.empty((len(self._shift_of), 3))
        self._scratch = self._device_pairs = self._offsets_cell = self._last_index = None

    def _shift_vectors(self, frame: Frame) -> FloatArray:
        """Cartesian vectors [n_shifts, 3] of the different shifts in the cell of a frame, Angstrom."""
        return shift_vectors(self._shifts, frame.cell, frame.pbc)

    def edges(self) -> tuple[NDArray[np.int64], FloatArray]:
        """Return the edges for the positions of the last update.

        Returns:
            edge_index [2, n_edges] int64 and edge_vec [n_edges, 3] float64 (Angstrom), all shorter than the cutoff and
            sorted by centre, neighbour and shift. The arrays are new.

        Raises:
            StructureError: two atoms overlap.
            OptionError: `update` was not called, or failed.
        """
        inside, vectors = self._inside(self._present())
        return self._pairs.take(inside, axis=1), vectors

    def _inside(self, frame: Frame) -> tuple[NDArray[np.intp], FloatArray]:
        """Return the indices of the pairs within the cutoff, and their vectors."""
        if self._scratch is None:  # allocating at every step costs more than the arithmetic
            self._scratch = np.empty_like(self._offsets), np.empty_like(self._offsets)
        if self._offsets_cell is None or not equal(frame.cell, self._offsets_cell):
            self._shift_vectors(frame).take(self._shift_of, axis=0, out=self._offsets, mode="clip")
            self._offsets_cell = frame.cell
        return pairs_inside(self._pairs, frame.positions, self._offsets, self.cutoff, self._scratch)

    def graph(self) -> Graph:
        """Build the graph of the last update, with the seven input keys and one system, on the list's device.

        Graphs of successive frames share tensors that are equal. Do not write to them.

        Raises:
            StructureError, OptionError: see `edges`.
        """
        frame = self._present()
        if self._constants is None or self._constants[0] is not frame.system:
            self._constants = frame.system, _constants(frame.system, self.device)
        positions = torch.from_numpy(frame.positions)
        if self.device.type == "cpu":
            inside, vectors = self._inside(frame)
            index, edge_vec = self._index(inside), torch.from_numpy(vectors)
        else:
            positions = positions.to(self.device)
            index, edge_vec = self._device_edges(frame, positions)
        return {**self._constants[1], keys.POSITIONS: positions, keys.EDGE_INDEX: index, keys.EDGE_VEC: edge_vec}

    def _index(self, inside: NDArray[np.intp]) -> torch.Tensor:
        """The pairs `inside` as a tensor; the tensor of the last call where they are the same."""
        if self._last_index is None or not equal(self._last_index[0], inside):
            self._last_index = inside, torch.from_numpy(self._pairs.take(inside, axis=1))
        return self._last_index[1]

    def edge_tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the results of `edges` as tensors on the list's device."""
        graph = self.graph()
        return graph[keys.EDGE_INDEX], graph[keys.EDGE_VEC]

    def _device_edges(self, frame: Frame, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`edge_tensors` on a GPU, which keeps the pairs between rebuilds."""
        if self._device_pairs is None:
            which = torch.from_numpy(self._shift_of).to(self.device)
            self._device_pairs = (torch.from_numpy(self._pairs).to(self.device), which)
        pairs, which = self._device_pairs
        offsets = torch.from_numpy(self._shift_vectors(frame)).to(self.device)
        vectors = positions[pairs[1]] - positions[pairs[0]] + offsets[which]
        squared = vectors.square().sum(dim=1)
        inside = torch.nonzero(squared < self.cutoff**2).squeeze(1)
        close = torch.nonzero(squared < MIN_DISTANCE**2).squeeze(1).cpu().numpy()
        if len(close):
            check_overlap(self._pairs[0, close], self._pairs[1, close], squared.cpu().numpy()[close])
        return pairs[:, inside], vectors[inside]

    def _present(self) -> Frame:
        """Return the frame of the last update.

        Raises:
            OptionError: the list holds no frame.
        """
        if self._built is None or self._frame is None:
            raise OptionError("the neighbour list holds no structure; call update(positions, cell, pbc) first")
        return self._frame

    def __getstate__(self) -> dict[str, object]:
        """Leave out scratch arrays and tensors, which are rebuilt when needed."""
        made_again = dict.fromkeys(("_scratch", "_device_pairs", "_last_index", "_constants"))
        return {**self.__dict__, **made_again}


def _constants(system: System, device: torch.device) -> Graph:
    """Tensors of a graph that are the same in all frames of a system."""
    tensors = {
        keys.ATOMIC_NUMBERS: torch.from_numpy(system.numbers),
        keys.SYSTEM_INDEX: torch.zeros(len(system.numbers), dtype=torch.int64),
        keys.CELL: torch.from_numpy(system.cell).unsqueeze(0),
        keys.PBC: torch.from_numpy(system.pbc).unsqueeze(0),
    }
    return {name: tensor.to(device) for name, tensor in tensors.items()}
