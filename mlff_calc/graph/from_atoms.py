"""Conversion of atoms to graphs."""

from __future__ import annotations

import torch
from ase import Atoms
from numpy.typing import ArrayLike

from mlff_calc.errors import OptionError
from mlff_calc.graph.frame import Frame
from mlff_calc.graph.keys import Graph
from mlff_calc.graph.occupancy import check_occupancy
from mlff_calc.graph.verlet import NeighborList


def graph_from_atoms(
    atoms: Atoms, cutoff: float, neighbors: NeighborList | None = None, device: str | torch.device = "cpu"
) -> Graph:
    """Build the graph of one structure.

    The atoms are not changed. `cell` is kept as given, even if it is a dummy. A volume is meaningful only for a
    structure that is periodic in all three directions (for a slab it includes the vacuum).

    Args:
        atoms: structure of any periodicity and number of atoms, wrapped or not.
        cutoff: cutoff radius (Angstrom).
        neighbors: neighbour list with a skin to reuse from step to step; its cutoff must equal `cutoff`.
        device: device of the tensors.

    Returns:
        A graph with the seven input keys and one system.

    Raises:
        StructureError: see `neighbor_pairs` and `check_occupancy`.
        OptionError: `neighbors` is for another cutoff or device.
    """
    check_occupancy(atoms)
    return graph_from_frame(Frame.of_atoms(atoms), cutoff, neighbors=neighbors, device=device)


def graph_from_arrays(
    numbers: ArrayLike,
    positions: ArrayLike,
    cell: ArrayLike | None,
    pbc: ArrayLike,
    cutoff: float,
    *,
    neighbors: NeighborList | None = None,
    device: str | torch.device = "cpu",
) -> Graph:
    """Build the graph of one structure given as arrays.

    Args:
        numbers: atomic numbers [n_atoms].
        positions: positions [n_atoms, 3], Angstrom.
        cell: cell vectors as rows [3, 3], Angstrom; None for no cell.
        pbc: one or three booleans.
        cutoff: cutoff radius (Angstrom).
        neighbors: neighbour list, as in `graph_from_atoms`.
        device: device of the tensors.

    Returns:
        A graph with the seven input keys and one system.

    Raises:
        StructureError: see `neighbor_pairs`; also raised where the numbers of atoms differ.
        OptionError: `neighbors` is for another cutoff or device.
    """
    frame = Frame.of(numbers, positions, cell, pbc)
    return graph_from_frame(frame, cutoff, neighbors=neighbors, device=device)


def graph_from_frame(
    frame: Frame, cutoff: float, *, neighbors: NeighborList | None = None, device: str | torch.device = "cpu"
) -> Graph:
    """Build the graph of a structure that is already checked; see `graph_from_atoms`.

    Raises:
        StructureError: atoms overlap.
        OptionError: `neighbors` is for another cutoff.
    """
    target = torch.device(device)
    if neighbors is None:
        neighbors = NeighborList(cutoff, skin=0.0, device=target)
    elif neighbors.cutoff != cutoff:
        raise OptionError(
            f"the neighbour list was made for a cutoff of {neighbors.cutoff} Angstrom, the graph needs {cutoff}; "
            "make it with NeighborList(potential.cutoff)"
        )
    neighbors.follow(frame)
    graph = neighbors.graph()
    return graph if neighbors.device == target else {name: tensor.to(target) for name, tensor in graph.items()}
