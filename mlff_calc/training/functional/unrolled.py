"""The loss of self-consistent fields whose cycles are recorded, for small molecules.

    loss = w mean_frames sum_j a_j (E_j - E_ref)^2 / sum_j a_j,        a_j = 1, 4, 9, ...

over the last cycles j of a field with the present weights, that begins at the density of the present round. Unlike the loss
at frozen densities it sees how the density answers to the weights, and takes tens of times as long.

Source: Gao, Eberhard and Guennemann, "Learning equivariant non-local electron density functionals" (2024).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

import torch
from ase.units import Hartree
from torch import Tensor

from mlff_calc.datasets.keys import ENERGY
from mlff_calc.electronic.functional import FunctionalNetwork
from mlff_calc.electronic.functional.unrolled import Molecule, unrolled_energies
from mlff_calc.graph.keys import INT, Graph, declare
from mlff_calc.training.data import Batch
from mlff_calc.training.functional.rounds import DensityRounds
from mlff_calc.training.objective import Forward, Objective, Stage

FRAME = declare("frame_of_rounds", "system", (), INT, "", "number of a frame among those of the rounds of densities")
CYCLES = "cycle_energies"
"""Output: energies of the last cycles [n_systems, n_cycles], eV."""
LAST = 5
"""Number of last cycles that count. Raising it asks for energies that are right before the field is self-consistent."""
CACHE_BYTES = 1024**3
"""Largest size of the matrices and orbitals on points that are kept in memory. Raising it saves computing them again."""


class UnrolledObjective(Objective):
    """Objective for energies of recorded self-consistent fields.

    Args:
        weight: Weight of the squared error, 1/eV^2.
        rounds: Rounds of the run, at whose densities fields begin.
        n_train: Number of training frames, which are the first ones of the rounds.
    """

    def __init__(self, weight: float, rounds: DensityRounds, n_train: int) -> None:
        self.weight, self._rounds, self._first = weight, rounds, {"train": 0, "valid": n_train}
        self._kept: OrderedDict[int, Molecule] = OrderedDict()
        self._starts: dict[int, tuple[int, Tensor]] = {}

    def yardstick(self) -> int:
        """Number of the round, whose densities fields begin at."""
        return self._rounds.round

    def prepare(self, stage: Stage, batch: Batch, generator: torch.Generator) -> Graph:
        """Add the numbers of the frames."""
        del generator
        first = self._first[stage]
        return batch.graph | {FRAME: torch.tensor([first + int(frame) for frame in batch.frames], dtype=INT)}

    def forward(self, network: Forward, graph: Graph) -> dict[str, Tensor]:
        """Compute the energies of the last cycles and of the very last one, eV, without constants of elements."""
        functional, cycles = cast(FunctionalNetwork, network), self._rounds.section.cycles
        found = [
            unrolled_energies(functional, self._molecule(functional, number), self._start(number), cycles)[-LAST:]
            for number in graph[FRAME].tolist()
        ]
        energies = torch.stack(found) * Hartree
        return {ENERGY: energies[:, -1], CYCLES: energies}

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of one batch, a scalar."""
        energies = outputs[CYCLES]
        shares = torch.arange(1.0, energies.shape[1] + 1.0, dtype=energies.dtype).square()
        wrong = (energies - batch.labels[ENERGY].unsqueeze(1)).square() @ (shares / shares.sum())
        if batch.weights is not None:
            wrong = wrong * batch.weights[ENERGY]
        return self.weight * wrong.mean()

    def _molecule(self, network: FunctionalNetwork, number: int) -> Molecule:
        from mlff_calc.electronic.scf.functional_matrices import functional_matrices

        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        found = self._kept[number] = functional_matrices(network, self._rounds.structures[number])
        while len(self._kept) > 1 and sum(one.n_bytes for one in self._kept.values()) > CACHE_BYTES:
            self._kept.popitem(last=False)
        return found

    def _start(self, number: int) -> Tensor:
        held = self._starts.get(number)
        if held is None or held[0] != self._rounds.round:
            held = self._starts[number] = self._rounds.round, torch.from_numpy(self._rounds.density(number).matrix)
        return held[1]
