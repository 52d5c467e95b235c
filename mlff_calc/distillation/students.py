"""Students in one batch: mean energies and forces, the spread of each force, and features that tell frames apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.errors import OptionError, StructureError
from mlff_calc.graph import keys
from mlff_calc.graph.batch import split
from mlff_calc.graph.keys import Graph
from mlff_calc.graph.many import NeighborLists
from mlff_calc.heads.uncertainty import FORCES_STD
from mlff_calc.potential import Potential
from mlff_calc.sampling.evaluators import portions
from mlff_calc.sampling.systems import Systems

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Judgement:
    """What students say of structures.

    Attributes:
        energies: [n_systems] eV.
        forces: [n_atoms, 3] eV/Angstrom, the mean of the students.
        spreads: Length of the spread of each force [n_atoms], eV/Angstrom.
    """

    energies: FloatArray
    forces: FloatArray
    spreads: FloatArray


class Students:
    """One potential with heads of errors, or several potentials with one cutoff.

    Args:
        potentials: The students.

    Raises:
        OptionError: One student without heads of errors, or students with different cutoffs.
    """

    def __init__(self, potentials: Sequence[Potential]) -> None:
        self.potentials = [one.eval().requires_grad_(False) for one in potentials]
        if len({one.cutoff for one in self.potentials}) > 1:
            raise OptionError("students have different cutoffs; train all of them by one recipe")
        if len(self.potentials) == 1 and not self.potentials[0].error_heads:
            raise OptionError("a single student has no spread; give student.committee 2 or more, or potential.uncertainty")
        self._systems: Systems | None = None
        self._lists: NeighborLists | None = None

    def judge(self, systems: Systems, positions: FloatArray) -> Judgement:
        """Energies, forces and spreads at positions [n_atoms, 3] (Angstrom).

        Raises:
            StructureError: Atoms that overlap, or positions that are not finite.
        """
        energies, forces, own = [], [], []
        for one in self.potentials:
            found = [one(part) for part in self._graphs(systems, positions)]
            energies.append(np.concatenate([each["energy"].detach().double().numpy() for each in found]))
            forces.append(np.concatenate([each["forces"].detach().double().numpy() for each in found]))
            if len(self.potentials) == 1:
                own = [each[FORCES_STD].detach().double().numpy() for each in found]
        stacked = np.stack(forces)
        deviations = np.concatenate(own) if own else stacked.std(axis=0)
        return Judgement(np.mean(energies, axis=0), stacked.mean(axis=0), np.linalg.norm(deviations, axis=1))

    def judge_frames(self, frames: Sequence[Atoms]) -> Judgement:
        """The same of frames."""
        return self.judge(*Systems.of(frames))

    def features(self, frames: Sequence[Atoms]) -> FloatArray:
        """Features of frames [n_frames, 2 channels]: mean and deviation over the atoms of the first student's scalars."""
        if not frames:
            return np.zeros((0, 1))
        systems, positions = Systems.of(frames)
        student, rows = self.potentials[0], []
        for part in self._graphs(systems, positions):
            with torch.no_grad():
                features = student.backbone(student.inputs(part, part[keys.EDGE_VEC]))["node_features"]
            rows.append(features[:, 0].double().numpy())
        scalars = np.concatenate(rows)
        sizes = systems.sizes[:, None].astype(np.float64)
        means = systems.sums(scalars) / sizes
        squares = systems.sums(scalars**2) / sizes
        return np.concatenate([means, np.sqrt(np.maximum(squares - means**2, 0.0))], axis=1)

    def fails(self, systems: Systems, positions: FloatArray) -> NDArray[np.bool_]:
        """Whether each system [n_systems] cannot be turned into a graph."""
        found = np.zeros(len(systems), dtype=bool)
        for number in range(len(systems)):
            alone = np.array([number])
            try:
                _lists(systems.take(alone), self.potentials[0].cutoff).graph(positions[systems.rows(alone)])
            except StructureError:
                found[number] = True
        return found

    def _graphs(self, systems: Systems, positions: FloatArray) -> list[Graph]:
        """Graphs of portions of the systems."""
        if self._lists is None or self._systems is not systems:
            self._lists, self._systems = _lists(systems, self.potentials[0].cutoff), systems
        graph = self._lists.graph(np.ascontiguousarray(positions))
        parts = portions(np.bincount(systems.index[graph[keys.EDGE_INDEX][0].numpy()], minlength=len(systems)))
        return [graph] if len(parts) == 1 else split(graph, parts)


def _lists(systems: Systems, cutoff: float) -> NeighborLists:
    return NeighborLists(systems.numbers, systems.sizes, systems.cells, systems.pbc, cutoff)
