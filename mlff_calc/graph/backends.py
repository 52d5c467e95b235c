"""Neighbour-list libraries by name, each of which finds all pairs within the cutoff in an enclosing box.

A backend is a function ``(box, cutoff, device) -> (i, j, shifts)``. It returns numpy arrays with both directions of
each pair, self images included, in any order. The callers sort the pairs, undo the wrapping and check distances.

=============  ==========================================================================================
name           library
=============  ==========================================================================================
``matscipy``   matscipy, in C, linear in the number of atoms; the default on CPU
``ase``        ase.neighborlist, in numpy; slow, the reference in tests
``vesin``      vesin-torch (extra ``gpu``): linear, finds pairs on CPU or CUDA; the default on CUDA (pairs pass
               through the host at each rebuild, to be sorted and checked)
``auto``       ``vesin`` on CUDA where it is installed, else ``matscipy``
=============  ==========================================================================================
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import torch
from matscipy.neighbours import neighbour_list as matscipy_neighbour_list
from numpy.typing import NDArray

from mlff_calc.errors import OptionError
from mlff_calc.graph.box import Box
from mlff_calc.near import suggestion

IntArray = NDArray[np.int64]
RawPairs = tuple[IntArray, IntArray, IntArray]

MAX_BINS_PER_ATOM = 1000
"""Number of bins per atom above which a grid is mostly empty and a k-d tree is used. Raising it costs memory."""


def matscipy_pairs(box: Box, cutoff: float, device: torch.device) -> RawPairs:
    """Find pairs by matscipy, or by scipy's tree where atoms are so sparse that a grid would be larger than the system."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(box.cell), axis=0)
    if not box.periodic.any() and np.prod(heights / cutoff + 1.0) > MAX_BINS_PER_ATOM * (len(box.positions) + 100):
        return _tree_pairs(box, cutoff)
    centers, neighbors, shifts = matscipy_neighbour_list(
        "ijS", positions=box.positions, cell=box.cell, pbc=box.periodic, cutoff=cutoff, cell_origin=np.zeros(3)
    )
    return centers, neighbors, shifts


def _tree_pairs(box: Box, cutoff: float) -> RawPairs:
    """Find the pairs of a non-periodic system by a k-d tree."""
    from scipy.spatial import cKDTree  # here, since it takes longer to import than all of this package

    half = cKDTree(box.positions).query_pairs(cutoff, output_type="ndarray")
    gaps = box.positions[half[:, 1]] - box.positions[half[:, 0]]
    half = half[np.einsum("ij,ij->i", gaps, gaps) < cutoff**2]
    both = np.concatenate([half, half[:, ::-1]])
    return both[:, 0], both[:, 1], np.zeros((len(both), 3), dtype=np.int64)


def ase_pairs(box: Box, cutoff: float, device: torch.device) -> RawPairs:
    """Find pairs by ase.neighborlist."""
    from ase.neighborlist import primitive_neighbor_list  # here, since it imports scipy's sparse matrices

    return primitive_neighbor_list("ijS", box.periodic, box.cell, box.positions, cutoff, self_interaction=False)


def vesin_pairs(box: Box, cutoff: float, device: torch.device) -> RawPairs:
    """Find pairs by vesin-torch on `device`.

    Raises:
        OptionError: the extra is not installed.
    """
    if not vesin_installed():
        raise OptionError(
            "neighbour backend 'vesin' needs vesin-torch, which is not installed: "
            'pip install "mlff_calc[gpu]", or choose backend="matscipy"'
        )
    from vesin_torch import NeighborList as VesinList

    def move(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    calculator = VesinList(cutoff=cutoff, full_list=True)
    centers, neighbors, shifts = calculator.compute(
        points=move(box.positions), box=move(box.cell), periodic=torch.from_numpy(box.periodic), quantities="ijS"
    )
    return centers.cpu().numpy(), neighbors.cpu().numpy(), shifts.cpu().numpy()


BACKENDS: dict[str, Callable[[Box, float, torch.device], RawPairs]] = {
    "matscipy": matscipy_pairs,
    "ase": ase_pairs,
    "vesin": vesin_pairs,
}


def vesin_installed() -> bool:
    """Whether vesin-torch can be imported."""
    return importlib.util.find_spec("vesin_torch") is not None


def resolve_backend(name: str, device: torch.device) -> str:
    """Return the backend that `name` stands for on `device`.

    Args:
        name: key of `BACKENDS`, or ``auto``.
        device: device that the model runs on.

    Raises:
        OptionError: the name is unknown; the message lists the known ones.
    """
    if name == "auto":
        return "vesin" if device.type == "cuda" and vesin_installed() else "matscipy"
    if name not in BACKENDS:
        hint = suggestion(name, [*BACKENDS, "auto"], before=" (", after=")")
        raise OptionError(f"unknown neighbour backend '{name}'{hint}; known: auto, {', '.join(BACKENDS)}")
    return name
