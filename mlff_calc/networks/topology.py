"""What all frames of one molecule or cluster have in common, for networks that know one: all pairs of atoms are edges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mlff_calc.backbones.keys import EDGE_SCALARS
from mlff_calc.datasets.motion.edges import complete_edges
from mlff_calc.errors import RecipeError
from mlff_calc.graph.bonds import HOPS, atom_classes, hop_counts
from mlff_calc.graph.keys import Graph
from mlff_calc.networks.elements import checked_element


@dataclass(frozen=True)
class Topology:
    """Atoms and bonds.

    Attributes:
        numbers: Atomic numbers.
        bonds: Pairs of bonded atoms; empty for clusters without bonds.
    """

    numbers: tuple[int, ...]
    bonds: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_config(cls, config: dict[str, Any]) -> Self:
        """Read `numbers` and `bonds` of a configuration."""
        return cls(tuple(config["numbers"]), tuple((i, j) for i, j in config["bonds"]))

    @cached_property
    def classes(self) -> Tensor:
        """Classes of atoms [n_atoms], from 1; see `atom_classes`."""
        return torch.from_numpy(atom_classes(np.array(self.numbers), [list(bond) for bond in self.bonds]))

    @cached_property
    def edges(self) -> Tensor:
        """All ordered pairs of atoms [2, n (n - 1)], sorted by the first."""
        return torch.from_numpy(complete_edges(len(self.numbers)))

    @property
    def n_edge_scalars(self) -> int:
        """Number of scalars of an edge: one for each number of bonds between its atoms up to `HOPS`."""
        return HOPS if self.bonds else 0

    @cached_property
    def edge_scalars(self) -> Tensor:
        """1 at the number of bonds between the atoms of an edge, otherwise 0 [n_edges, n_edge_scalars]."""
        hops = torch.from_numpy(hop_counts(len(self.numbers), [list(bond) for bond in self.bonds]))
        between = hops[self.edges[0], self.edges[1]]
        return (between[:, None] == torch.arange(1, self.n_edge_scalars + 1)).double()

    def frames(self, positions: Tensor) -> Graph:
        """Build the graph of frames.

        Args:
            positions: [n_frames, n_atoms, 3] Angstrom, float64.
        """
        n_frames, n_atoms = positions.shape[:2]
        device = positions.device
        index = torch.arange(n_frames, device=device).repeat_interleave(n_atoms)
        shifts = n_atoms * torch.arange(n_frames, device=device).repeat_interleave(self.edges.shape[1])
        graph = {
            "atomic_numbers": self.classes.to(device).repeat(n_frames),
            "system_index": index,
            "positions": positions.reshape(-1, 3),
            "edge_index": self.edges.to(device).repeat(1, n_frames) + shifts,
            "edge_vec": positions.new_empty(0, 3),
            EDGE_SCALARS: self.edge_scalars.to(device).repeat(n_frames, 1),
            "cell": positions.new_zeros(n_frames, 3, 3),
            "pbc": torch.zeros(n_frames, 3, dtype=torch.bool, device=device),
        }
        return moved(graph, graph["positions"])


def moved(graph: Graph, positions: Tensor) -> Graph:
    """Return the graph with other positions [n_atoms, 3], and the edge vectors that belong to them."""
    edges = graph["edge_index"]
    vectors = positions.index_select(0, edges[1]) - positions.index_select(0, edges[0])
    return graph | {"positions": positions, "edge_vec": vectors}


def checked_numbers(numbers: Any, what: str) -> list[int]:  # noqa: ANN401
    """Return the atomic numbers of a configuration, at least two.

    Args:
        numbers: As configured.
        what: Name of the network with its article, for messages.

    Raises:
        RecipeError: There are fewer than two, or one is not from 1 to 118.
    """
    found = [checked_element(number, what, "numbers") for number in numbers]
    if len(found) < 2:
        raise RecipeError(f"{what}'s configuration has one atom; a single atom has no shape to learn")
    return found


def checked_bonds(bonds: Any, n_atoms: int, what: str) -> list[list[int]]:  # noqa: ANN401
    """Return the bonds of a configuration as sorted pairs of atoms.

    Args:
        bonds: As configured.
        n_atoms: Number of atoms.
        what: Name of the network with its article, for messages.

    Raises:
        RecipeError: One is not a pair of two atoms.
    """
    return [_bond(bond, n_atoms, what) for bond in bonds]


def _bond(bond: Any, n_atoms: int, what: str) -> list[int]:  # noqa: ANN401
    good = isinstance(bond, list | tuple) and len(bond) == 2 and all(isinstance(i, int) for i in bond)
    if good and 0 <= min(bond) < max(bond) < n_atoms:
        return [int(i) for i in sorted(bond)]
    raise RecipeError(f"bonds holds {bond!r} in {what}'s configuration; give pairs of two of the {n_atoms} atoms")
