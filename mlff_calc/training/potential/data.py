"""Frames with energies, forces and stresses as batches; graphs are made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_calc.datasets import KINDS, Kind, Sample, labelled_graph
from mlff_calc.graph import collate, to_device


@dataclass(frozen=True)
class Batch:
    """Some frames as one graph, with their labels.

    Attributes:
        graph: Input keys of the graph contract.
        labels: `energy` [n_systems] eV, `forces` [n_atoms, 3] eV/Angstrom, `stress` [n_systems, 3, 3] eV/Angstrom^3;
            float64, NaN where a frame lacks the label.
        n_atoms: Atoms per system [n_systems].
        frames: Numbers of the frames within their part of the data.
        weights: Of the terms of the loss: `energy` [n_systems], `forces` [n_atoms], `stress` [n_systems], float64; None
            where all are 1.
    """

    graph: dict[str, Tensor]
    labels: dict[str, Tensor]
    n_atoms: Tensor
    frames: list[int]
    weights: dict[str, Tensor] | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        if self.n_atoms.device == device:
            return self
        labels = {name: label.to(device, non_blocking=True) for name, label in self.labels.items()}
        graph = to_device(self.graph, device, non_blocking=True)
        weights = self.weights and {name: one.to(device, non_blocking=True) for name, one in self.weights.items()}
        return Batch(graph, labels, self.n_atoms.to(device, non_blocking=True), self.frames, weights)


class GraphFrames:
    """The graphs and labels of a part of the data, made once.

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
        self.weights = weights
        self.graphs: list[dict[str, Tensor]] = []
        self.labels: list[dict[str, Tensor]] = []
        for sample in samples:
            graph = labelled_graph(sample, cutoff)
            self.labels.append({name: graph.pop(name) for name in KINDS})
            self.graphs.append(graph)

    def __len__(self) -> int:
        return len(self.graphs)

    def average_neighbors(self) -> float:
        """Edges per atom over all frames."""
        edges = sum(graph["edge_index"].shape[1] for graph in self.graphs)
        return edges / max(1, sum(graph["atomic_numbers"].shape[0] for graph in self.graphs))

    def batch(self, frames: list[int]) -> Batch:
        """The named frames as one batch."""
        graph = collate([self.graphs[index] for index in frames])
        labels: dict[str, Tensor] = {name: torch.cat([self.labels[index][name] for index in frames]) for name in KINDS}
        n_atoms = torch.tensor([self.graphs[index]["atomic_numbers"].shape[0] for index in frames])
        return Batch(graph, labels, n_atoms, frames, self._weights_of(frames, n_atoms))

    def _weights_of(self, frames: list[int], n_atoms: Tensor) -> dict[str, Tensor] | None:
        """Of a batch: one per system, and of forces one per atom."""
        if self.weights is None:
            return None
        chosen = [self.weights[index] for index in frames]
        found = {kind: torch.tensor([one[kind] for one in chosen], dtype=torch.float64) for kind in KINDS}
        return {kind: one.repeat_interleave(n_atoms) if kind == "forces" else one for kind, one in found.items()}
