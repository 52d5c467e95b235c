"""Which neighbour list serves which structure.

One calculator may serve many structures in turn: the images of a band, replicas, displaced copies of a crystal. A single
list with a skin would be rebuilt at each change of structure, so a few are kept. Which one is used decides on speed
only, never on results: every `NeighborList` looks at the positions it gets and rebuilds where it must.
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


@dataclass
class _Entry:
    """A list, the object it was made for, and the structure at its last build."""

    neighbors: NeighborList
    owner: weakref.ref[Atoms]
    built: Frame | None = None

    def fits(self, frame: Frame) -> bool:
        """Whether the list could be used for `frame` as it is."""
        built = self.built
        if built is None or not (
            equal(built.numbers, frame.numbers) and equal(built.pbc, frame.pbc) and equal(built.cell, frame.cell)
        ):
            return False
        moved = frame.positions - built.positions
        return bool(np.einsum("ij,ij->i", moved, moved).max(initial=0.0) <= (0.5 * self.neighbors.skin) ** 2)


class NeighborLists:
    """A few neighbour lists, the least recently used of which makes room for a new one.

    Args:
        cutoff: Angstrom.
        skin: Angstrom.
        backend: see `mlff_calc.graph.backends`.
        device: where the graphs go.

    Raises:
        OptionError: see `NeighborList`.
    """

    def __init__(self, cutoff: float, skin: float, backend: str, device: torch.device) -> None:
        self.cutoff = float(cutoff)
        self._new_list = partial(NeighborList, self.cutoff, skin, backend, device)
        self._entries: list[_Entry] = []  # most recently used last
        self._new_list()  # bad options are refused now, not at the first call

    def graph(self, atoms: Atoms, frame: Frame) -> tuple[Graph, bool]:
        """The graph of a frame, and whether a list had to be built for it.

        Args:
            atoms: the object that asks; kept by a weak reference.
            frame: its structure.

        Raises:
            StructureError: atoms overlap.
        """
        entry = self._choose(atoms, frame)
        rebuilt = entry.neighbors.follow(frame)
        if rebuilt:
            entry.built = frame
        return entry.neighbors.graph(), rebuilt

    def _choose(self, atoms: Atoms, frame: Frame) -> _Entry:
        """The structure's own list, else one that fits as it is, else one nobody needs, else a new one."""
        entries = self._entries
        if entries and entries[-1].owner() is atoms:  # molecular dynamics: always this one
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
