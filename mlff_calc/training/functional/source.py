"""Batches of frozen densities: points of grids beside atoms, and what the energy contains besides E_xc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlff_calc.datasets.keys import ENERGY
from mlff_calc.graph.keys import CELL, DOUBLE, INT, POSITIONS, SYSTEM_INDEX, Graph, declare, register_level
from mlff_calc.training.data import Batch
from mlff_calc.training.functional.rounds import DensityRounds
from mlff_calc.training.streamed import StreamedFrames

GRID_SYSTEM = declare("grid_system", "point", (), INT, "", "system of the batch that a point belongs to", points_to="system")
GRID_POSITIONS = declare("grid_positions", "point", (3,), DOUBLE, "Bohr", "points of an integration grid")
GRID_ELECTRONS = declare("grid_electrons", "point", (), DOUBLE, "", "electrons of a point")
GRID_ENERGIES = declare("grid_energies", "point", (), DOUBLE, "Hartree", "energy of a point with the base functional")
GRID_KNOWN = declare("grid_known", "point", (None,), DOUBLE, "", "bounded local quantities at a point")
POINTS = (GRID_ELECTRONS, GRID_ENERGIES, GRID_KNOWN, GRID_SYSTEM)
"""Keys of the fields of `Points`."""
REST_ENERGY = declare("rest_energy", "system", (), DOUBLE, "Hartree", "total energy without exchange and correlation")
register_level("point", GRID_SYSTEM, owner=GRID_SYSTEM)
CACHE_BYTES = 512 * 1024**2
"""Largest size of the densities kept in memory. Raising it reads files less often where data are larger."""


class FrozenFrames:
    """Source of batches at the densities of the present round.

    Args:
        rounds: Rounds of the run.
        first: Number of the first frame of this part among those of the rounds.
        energies: Total energies of the frames without constants of elements, eV.
        leads: Whether batches of this source begin rounds; else it follows.
        weights: Weights of the frames in the loss by label; None where all are 1.

    Attributes:
        energies: The energies, which may be set before the first batch.
    """

    def __init__(
        self,
        rounds: DensityRounds,
        first: int,
        energies: Sequence[float],
        *,
        leads: bool,
        weights: Sequence[Mapping[Any, float]] | None = None,
    ) -> None:
        self._rounds, self._first, self.energies, self._leads = rounds, first, energies, leads
        self._weights = weights
        self._round = -1
        self._frames: StreamedFrames | None = None

    def __len__(self) -> int:
        return len(self.energies)

    def batch(self, frames: Sequence[int], epoch: int, generator: torch.Generator) -> Batch:
        """Return the given frames as one batch; the first batch of a round refreshes the densities.

        Raises:
            TrainingError: Densities are damaged, or cannot be made.
        """
        if self._leads:
            every = self._rounds.section.epochs
            self._rounds.enter(epoch // every, first=epoch % every == 0)
        if self._frames is None or self._round != self._rounds.round:
            make = partial(_make, self._rounds, self._first, self.energies)
            self._frames = StreamedFrames(make, len(self), self._weights, CACHE_BYTES)
            self._round = self._rounds.round
        return self._frames.batch(frames, epoch, generator)


def _make(rounds: DensityRounds, first: int, energies: Sequence[float], number: int) -> tuple[Graph, dict[str, Tensor]]:
    atoms, frozen = rounds.structures[first + number], rounds.density(first + number)
    n_points = len(frozen.weights)
    with torch.no_grad():
        points = rounds.functional.points(frozen.grid())
    graph = {
        "atomic_numbers": torch.from_numpy(atoms.numbers.astype(np.int64)),
        SYSTEM_INDEX: torch.zeros(len(atoms), dtype=INT),
        POSITIONS: torch.from_numpy(np.array(atoms.positions)),
        CELL: torch.zeros((1, 3, 3), dtype=DOUBLE),
        GRID_POSITIONS: torch.from_numpy(frozen.positions),
        **dict(zip(POINTS, (*points[:3], torch.zeros(n_points, dtype=INT)), strict=True)),
        REST_ENERGY: torch.tensor([frozen.rest], dtype=DOUBLE),
    }
    return graph, {ENERGY: torch.tensor([energies[number]], dtype=DOUBLE)}
