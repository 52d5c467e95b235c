"""What a graph may tell a backbone beside species and edge vectors: velocities, charges, kinds of edges.

Two keys, whose presence decides; potentials set neither.

| key | shape | what backbones do with it |
|---|---|---|
| `input_features` | [n_atoms, 4, channels] | add it to their first scalars (row 0) and vectors (rows 1 to 3: x, y, z) |
| `edge_inputs` | [n_edges, n_basis] | add it to their radial basis |
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.backbones.keys import EDGE_INPUTS, INPUT_FEATURES


def input_features(graph: dict[str, Tensor]) -> Tensor | None:
    """Scalars and vectors known of atoms [n_atoms, 4, channels]; None where there are none."""
    return graph.get(INPUT_FEATURES)


def edge_inputs(graph: dict[str, Tensor]) -> Tensor | None:
    """What is known of edges [n_edges, n_basis]; None where there is nothing."""
    return graph.get(EDGE_INPUTS)


def add_inputs(features: Tensor, inputs: Tensor) -> Tensor:
    """Add `inputs` [n_atoms, 4, channels] to `features` [n_atoms, n, channels]; vectors where n is at least 4."""
    n = min(features.shape[1], 4)
    return torch.cat([features[:, :n] + inputs[:, :n], features[:, n:]], dim=1)
