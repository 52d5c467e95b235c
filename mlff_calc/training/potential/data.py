"""Batches of frames with energies, forces and stresses, whose graphs are made once or on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from mlff_calc.datasets import KINDS, Kind, Sample, labelled_graph
from mlff_calc.datasets.lazy import LazySamples
from mlff_calc.training.packed import PackedFrames
from mlff_calc.training.streamed import CACHE_BYTES, Labelled, StreamedFrames


class GraphFrames(PackedFrames):
    """Graphs and labels of a part of the data, made once.

    Labels are `energy` [n_systems] eV, `forces` [n_atoms, 3] eV/Angstrom and `stress` [n_systems, 3, 3] eV/Angstrom^3.

    Args:
        samples: Structures and labels.
        cutoff: Cutoff radius, Angstrom.
        weights: Weights of the labels of each sample; None where all are 1.

    Raises:
        StructureError: A structure cannot be a graph; the message names file and frame.
    """

    def __init__(
        self, samples: Sequence[Sample], cutoff: float, weights: Sequence[Mapping[Kind, float]] | None = None
    ) -> None:
        made = [_labelled(sample, cutoff) for sample in samples]
        super().__init__([graph for graph, _ in made], [labels for _, labels in made], weights)

    def average_neighbors(self) -> float:
        """Return the number of edges per atom over all frames."""
        return self.graphs.total("edge") / max(1, self.graphs.total("atom"))


class StreamedGraphFrames(StreamedFrames):
    """Graphs and labels of a part of the data, made on demand from frames that stay in their file.

    Args:
        samples: Structures and labels.
        cutoff: Cutoff radius, Angstrom.
        weights: Weights of the labels of each sample; None where all are 1.
        cache_bytes: Largest size of the cached graphs in bytes.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        cutoff: float,
        weights: Sequence[Mapping[Kind, float]] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(partial(_drawn, samples, cutoff), len(samples), weights, cache_bytes)

    def average_neighbors(self) -> float:
        """Return the number of edges per atom over all frames, making their graphs one by one."""
        edges = atoms = 0
        for number in range(len(self)):
            graph, _ = self.frame(number)
            edges += graph["edge_index"].shape[1]
            atoms += graph["atomic_numbers"].shape[0]
        return edges / max(1, atoms)


GraphSource = GraphFrames | StreamedGraphFrames


def _drawn(samples: Sequence[Sample], cutoff: float, number: int) -> Labelled:
    return _labelled(samples[number], cutoff)  # a named function, since spawned processes get a pickled source


def _labelled(sample: Sample, cutoff: float) -> Labelled:
    graph = labelled_graph(sample, cutoff)
    return graph, {name: graph.pop(name) for name in KINDS}


def check_structures(samples: Sequence[Sample], cutoff: float) -> None:
    """Make the graph of every frame that stays in its file once, so that a bad one is found before anything is trained.

    Args:
        samples: Structures and labels; those in memory have their graphs made when a source is made of them.
        cutoff: Angstrom.

    Raises:
        StructureError: A structure cannot be a graph; names the file and the frame.
    """
    if isinstance(samples, LazySamples):
        for sample in samples:
            labelled_graph(sample, cutoff, kinds=())


def graph_frames(
    samples: Sequence[Sample], cutoff: float, weights: Sequence[Mapping[Kind, float]] | None = None
) -> GraphSource:
    """Create the source of batches of a part of the data; arguments as for `GraphFrames`.

    Frames that stay in their file have their graphs made when they are drawn; see `check_structures`.
    """
    kind = StreamedGraphFrames if isinstance(samples, LazySamples) else GraphFrames
    return kind(samples, cutoff, weights)
