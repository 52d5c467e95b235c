"""Structures of a pretraining as batches of graphs, with all pairs that noise can bring within the cutoff."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlff_calc.datasets import Sample
from mlff_calc.errors import DatasetError, StructureError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.graph.keys import Graph
from mlff_calc.pretraining.hinges import Scales, with_hinges
from mlff_calc.pretraining.noise import REACH
from mlff_calc.pretraining.objectives import Pretext
from mlff_calc.training.packed import PackedFrames


def refuse_shapeless(samples: Sequence[Sample], hinges: bool) -> None:
    """Refuse structures of one atom, and periodic ones where bonds should turn.

    Raises:
        DatasetError: There is one; the message names it.
    """
    for one in samples:
        if len(one.atoms) < 2 and not one.atoms.pbc.any():
            raise DatasetError(f"{one.place} holds {len(one.atoms)} atom, which has no shape to learn; leave it out")
        if hinges and one.atoms.pbc.any():
            raise DatasetError(
                f"{one.place} is periodic, and the noise of bonds, angles and torsions moves parts of molecules; turn pbc "
                "off, or set pretraining.objective.noise to cartesian"
            )


class NoiseFrames(PackedFrames):
    """Graphs of structures, made once, from which noisy copies are made; without labels.

    Args:
        samples: Structures, at least one.
        cutoff: Cutoff of the copies, Angstrom.
        objective: Objective, whose noise decides how far pairs reach.

    Raises:
        DatasetError: See `refuse_shapeless`.
        StructureError: A structure cannot be a graph; the message names it.
    """

    def __init__(self, samples: Sequence[Sample], cutoff: float, objective: Pretext) -> None:
        refuse_shapeless(samples, objective.scales is not None)
        graphs = [_wide_graph(one, cutoff, max(objective.sigmas.values()), objective.scales) for one in samples]
        if objective.scales is not None:
            graphs = with_hinges(graphs, objective.scales)
        self.cutoff = cutoff
        super().__init__(graphs, [{}] * len(graphs))
        near = sum(int((one["edge_vec"].square().sum(dim=1) < cutoff**2).sum()) for one in graphs)
        self._neighbors = near / self.graphs.total("atom")

    def average_neighbors(self) -> float:
        """Return the number of edges per atom within the cutoff, over all frames."""
        return self._neighbors


def _wide_graph(sample: Sample, cutoff: float, sigma: float, scales: Scales | None) -> Graph:
    """A graph with all pairs that may be within the cutoff after noise; with moves about bonds, all pairs there are."""
    reach = cutoff + REACH * sigma
    if scales is not None:
        positions = sample.atoms.positions
        reach = max(reach, 1.0 + float(np.linalg.norm(np.ptp(positions, axis=0))))
    try:
        return graph_from_atoms(sample.atoms, reach)
    except StructureError as error:
        raise StructureError(f"{sample.place}: {error}") from error
