"""The loss of a learned functional: the mean square error of energies at frozen densities.

    E = E_rest + E_xc(theta; n),    loss = w mean (E - E_ref)^2,

in eV^2; relative errors are those after constants of elements are fitted to the batch. Since the density was
self-consistent for nearly the same weights, the gradient is that of the self-consistent energy up to the change of the
density since.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

import torch
from ase.units import Bohr, Hartree
from torch import Tensor

from mlff_calc.datasets.keys import ENERGY
from mlff_calc.electronic.functional import FunctionalNetwork
from mlff_calc.electronic.functional.grid import Points
from mlff_calc.electronic.functional.near import Near
from mlff_calc.graph.keys import DOUBLE, INT, POSITIONS, SYSTEM_INDEX, Graph, declare
from mlff_calc.training.data import Batch
from mlff_calc.training.functional.constants import without_constants
from mlff_calc.training.functional.rounds import DensityRounds
from mlff_calc.training.functional.source import GRID_POSITIONS, GRID_SYSTEM, POINTS, REST_ENERGY
from mlff_calc.training.objective import Forward, Objective, Stage
from mlff_calc.training.sums import ErrorSums

NEAR = (
    declare("near_points", "atom", (None,), INT, "", "numbers of the points near a nucleus", points_to="point"),
    declare("near_basis", "atom", (None, None), DOUBLE, "", "functions of a nucleus at these points"),
    declare("near_squares", "atom", (None,), DOUBLE, "Bohr^2", "squares of the distances of these points"),
    declare("near_fade", "atom", (None,), DOUBLE, "", "envelope at these points"),
)
"""Keys of the fields of `Near`."""
CACHE_BYTES = 1024**3
"""Largest size of the functions at points near nuclei that are kept in memory. Raising it saves computing them again."""


class FunctionalObjective(Objective):
    """Objective for energies at the densities of the present round.

    Args:
        weight: Weight of the squared error, 1/eV^2.
        rounds: Rounds of the run.
        network: Network that is trained.
        relative: Whether errors count after constants of elements are fitted to those of the batch.
    """

    def __init__(
        self, weight: float, rounds: DensityRounds, network: FunctionalNetwork, *, relative: bool = False
    ) -> None:
        self.weight, self._rounds, self._network, self._relative = weight, rounds, network, relative
        self._kept: OrderedDict[tuple[Stage, int], Near] = OrderedDict()
        self._bytes = 0

    def yardstick(self) -> int:
        """Number of the round, whose densities validations are measured at."""
        return self._rounds.round

    def prepare(self, stage: Stage, batch: Batch, generator: torch.Generator) -> Graph:
        """Add the functions at points near nuclei, which no round changes and which are kept while memory lasts."""
        del generator
        if self._network.is_local:
            return batch.graph
        counts = torch.bincount(batch.graph[GRID_SYSTEM], minlength=len(batch.frames)).tolist()
        atoms = batch.n_atoms.tolist()
        points = batch.graph[GRID_POSITIONS].split(counts)
        centres = (batch.graph[POSITIONS] / Bohr).split(atoms)
        found = [self._near(stage, *one) for one in zip(batch.frames, points, centres, strict=True)]
        joined = found[0] if len(found) == 1 else Near.join(found, counts)
        return batch.graph | dict(zip(NEAR, joined, strict=True))

    def _near(self, stage: Stage, frame: int, points: Tensor, centres: Tensor) -> Near:
        key = stage, frame
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        with torch.no_grad():
            near: Near = self._network.functions(points, centres)
        self._kept[key] = near
        self._bytes += near.n_bytes
        while self._bytes > CACHE_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].n_bytes
        return near

    def forward(self, network: Forward, graph: Graph) -> dict[str, Tensor]:
        """Compute total energies [n_systems], eV, without constants of elements."""
        points = Points(*(graph[name] for name in POINTS))
        near = Near(*(graph[name] for name in NEAR)) if NEAR[0] in graph else None
        found = cast(FunctionalNetwork, network)(points, graph[POSITIONS] / Bohr, graph[SYSTEM_INDEX], near)
        return {ENERGY: (graph[REST_ENERGY] + found) * Hartree}

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of one batch, a scalar."""
        weights = None if batch.weights is None else batch.weights[ENERGY]
        if self._relative:
            left, free = self._left(outputs, batch, weights)
            return self.weight * left.square().sum() / max(free, 1)
        wrong = (outputs[ENERGY] - batch.labels[ENERGY]).square()
        if weights is not None:
            wrong = wrong * weights
        return self.weight * wrong.mean()

    def errors(self, sums: ErrorSums, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Add the errors of a validation batch to the sums."""
        if self._relative:
            left, free = self._left(outputs, batch, None)
            outputs = outputs | {ENERGY: batch.labels[ENERGY] + left * (len(left) / max(free, 1)) ** 0.5}
        super().errors(sums, outputs, batch)

    def _left(self, outputs: Mapping[str, Tensor], batch: Batch, weights: Tensor | None) -> tuple[Tensor, int]:
        wrong, graph = outputs[ENERGY] - batch.labels[ENERGY], batch.graph
        return without_constants(wrong, graph["atomic_numbers"], graph[SYSTEM_INDEX], weights)

