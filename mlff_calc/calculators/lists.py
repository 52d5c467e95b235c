"""Assignment of neighbour lists to structures.

One calculator may serve many structures in turn: images of a band, replicas, displaced copies of a crystal. A single
list with a skin would be rebuilt at each change of structure, so several lists are kept. The choice of list affects only
speed, never results: every `NeighborList` compares positions and rebuilds if necessary.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from ase import Atoms

from mlff_calc.graph import Graph, NeighborList
from mlff_calc.graph.frame import Frame, equal

MAX_LISTS = 16
"""Largest number of lists; a larger number serves more structures without rebuilding and needs more memory."""


@dataclass
class _Entry:
    """A neighbour list, the atoms it belongs to, and the frame of its last build."""

    neighbors: NeighborList
    owner: weakref.ref[Atoms]
    built: Frame | None = None

    def fits(self, frame: Frame) -> bool:
        """Whether the list can serve `frame` without being rebuilt."""
        built = self.built
        if built is None or not (
            equal(built.numbers, frame.numbers) and equal(built.pbc, frame.pbc) and equal(built.cell, frame.cell)
        ):
            return False
        moved = frame.positions - built.positions
        return bool(np.einsum("ij,ij->i", moved, moved).max(initial=0.0) <= (0.5 * self.neighbors.skin) ** 2)


class NeighborLists:
    """Up to `MAX_LISTS` neighbour lists; a new one replaces the least recently used.

    Args:
        cutoff: Cutoff radius in Angstrom.
        skin: Margin beyond the cutoff, in Angstrom.
        backend: Name of a backend of `mlff_calc.graph.backends`.
        device: Device of the graphs.

    Raises:
        OptionError: An option is invalid; see `NeighborList`.
    """

    def __init__(self, cutoff: float, skin: float, backend: str, device: torch.device) -> None:
        self.cutoff = float(cutoff)
        self._new_list = partial(NeighborList, self.cutoff, skin, backend, device)
        self._entries: list[_Entry] = []  # most recently used last
        self._new_list()  # refuses invalid options here and not at the first call

    def graph(self, atoms: Atoms, frame: Frame) -> tuple[Graph, bool]:
        """Return the graph of a frame, and whether a list had to be built for it.

        Args:
            atoms: Atoms of the frame, kept by a weak reference.
            frame: Frame of these atoms.

        Raises:
            StructureError: Atoms overlap.
        """
        entry = self._choose(atoms, frame)
        rebuilt = entry.neighbors.follow(frame)
        if rebuilt:
            entry.built = frame
        return entry.neighbors.graph(), rebuilt

    def _choose(self, atoms: Atoms, frame: Frame) -> _Entry:
        """Choose the list of these atoms, else one that fits, else one whose atoms are gone, else a new one."""
        entries = self._entries
        if entries and entries[-1].owner() is atoms:  # always true in molecular dynamics
            return entries[-1]
        chosen = next((entry for entry in reversed(entries) if entry.owner() is atoms), None)
        if chosen is None:
            chosen = next((entry for entry in reversed(entries) if entry.fits(frame)), None)
        if chosen is None:
            chosen = next((entry for entry in entries if entry.owner() is None), None)
            if chosen is None and len(entries) == MAX_LISTS:
                chosen = entries[0]
            if chosen is None:
                chosen = _Entry(self._new_list(), weakref.ref(atoms))
                entries.append(chosen)
            chosen.owner = weakref.ref(atoms)
        entries.remove(chosen)
        entries.append(chosen)
        return chosen
