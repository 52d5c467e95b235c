"""A torch Dataset of labelled graphs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from mlff_calc.datasets.keys import ENERGY, FORCES, STRESS
from mlff_calc.datasets.labels import LabelKeys
from mlff_calc.datasets.readers import read_structures
from mlff_calc.datasets.sample import KINDS, Kind, Sample
from mlff_calc.datasets.units import Units
from mlff_calc.errors import OptionError, StructureError
from mlff_calc.graph import Graph, graph_from_atoms


def count_labels(samples: Iterable[Sample]) -> dict[str, int]:
    """Count frames and labels: ``frames``, ``energy``, ``forces``, ``stress``."""
    counts: dict[str, int] = {name: 0 for name in ("frames", *KINDS)}
    for sample in samples:
        counts["frames"] += 1
        for kind in sample.labels():
            counts[kind] += 1
    return counts


class StructureDataset(Dataset[Graph]):
    """Structures with labels, whose items are graphs.

    Every item has the same label keys, those that at least one sample has. Missing labels are NaN.

    Args:
        samples: Samples from `read_structures`.
        cutoff: Cutoff of the graphs, Angstrom; None if only the samples are needed.
    """

    def __init__(self, samples: Sequence[Sample], cutoff: float | None = None) -> None:
        self.samples = list(samples)
        self.cutoff = cutoff
        counts = count_labels(self.samples)
        self.kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if counts[kind] > 0)
        self._graphs: tuple[float, list[Graph]] | None = None

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        index: str | int | slice = ":",
        keys: LabelKeys | None = None,
        *,
        cutoff: float | None = None,
        format: str | None = None,
        part: str | None = None,
        units: Units | None = None,
    ) -> StructureDataset:
        """Read a data set from one file; arguments and errors as in `read_structures`."""
        return cls(read_structures(path, index, keys, format=format, part=part, units=units), cutoff)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Graph:
        """Return graph number `index` for the cutoff given at the start; raises an OptionError where none was given."""
        if self.cutoff is None:
            raise OptionError("the data set has no cutoff to make graphs with; give StructureDataset(..., cutoff=5.0)")
        return self.graphs(self.cutoff)[index]

    def subset(self, indices: Iterable[int]) -> StructureDataset:
        """Return a data set of the given samples, in that order."""
        return StructureDataset([self.samples[int(index)] for index in indices], self.cutoff)

    def elements(self) -> list[int]:
        """Return the atomic numbers that occur, sorted."""
        return sorted({int(number) for sample in self.samples for number in np.unique(sample.atoms.numbers)})

    def graphs(self, cutoff: float) -> list[Graph]:
        """Return all graphs with labels, made once per cutoff (only those of the last cutoff are kept).

        Args:
            cutoff: Cutoff radius, Angstrom.

        Returns:
            One graph per sample; memory grows with the number of edges.

        Raises:
            StructureError: a structure cannot be a graph; the message names file and frame.
        """
        if self._graphs is None or self._graphs[0] != cutoff:
            self._graphs = (cutoff, [labelled_graph(sample, cutoff, self.kinds) for sample in self.samples])
        return self._graphs[1]


def labelled_graph(sample: Sample, cutoff: float, kinds: Sequence[Kind] = KINDS) -> Graph:
    """Build the graph of a sample with its labels.

    Args:
        sample: Structure and labels.
        cutoff: Cutoff radius, Angstrom.
        kinds: Labels to add; NaN where the sample lacks them.

    Returns:
        Graph with the seven input keys and, as requested, `energy` [1] eV, `forces` [n_atoms, 3] eV/Angstrom and
        `stress` [1, 3, 3] eV/Angstrom^3, all float64.

    Raises:
        StructureError: the structure cannot be a graph; the message names file and frame.
    """
    try:
        graph = graph_from_atoms(sample.atoms, cutoff)
    except StructureError as error:
        raise StructureError(f"{sample.place}: {error}") from error
    shapes: dict[Kind, tuple[int, ...]] = {ENERGY: (1,), FORCES: (len(sample.atoms), 3), STRESS: (1, 3, 3)}
    labels = sample.labels()
    for kind in kinds:
        if kind in labels:
            graph[kind] = torch.as_tensor(labels[kind], dtype=torch.float64).reshape(shapes[kind])
        else:
            graph[kind] = torch.full(shapes[kind], float("nan"), dtype=torch.float64)
    return graph
