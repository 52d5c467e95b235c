"""Frames with energies, forces and stresses as batches; graphs are made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlff_calc.datasets import KINDS, Kind, Sample, labelled_graph
from mlff_calc.training.packed import PackedFrames


class GraphFrames(PackedFrames):
    """The graphs and labels of a part of the data, made once.

    Labels are `energy` [n_systems] eV, `forces` [n_atoms, 3] eV/Angstrom and `stress` [n_systems, 3, 3] eV/Angstrom^3.

    Args:
        samples: Structures and labels.
        cutoff: Angstrom.
        weights: Weights of the labels of each sample; None where all are 1.

    Raises:
        StructureError: A structure cannot be a graph; names the file and the frame.
    """

    def __init__(
        self, samples: Sequence[Sample], cutoff: float, weights: Sequence[Mapping[Kind, float]] | None = None
    ) -> None:
        graphs = [labelled_graph(sample, cutoff) for sample in samples]
        super().__init__(graphs, [{name: graph.pop(name) for name in KINDS} for graph in graphs], weights)

    def average_neighbors(self) -> float:
        """Edges per atom over all frames."""
        return self.graphs.total("edge") / max(1, self.graphs.total("atom"))
