"""Inputs of a backbone besides species and edge vectors: velocities, charges, kinds of edges.

Backbones use two keys where a graph has them. Potentials set neither.

| key | shape | use |
|---|---|---|
| `input_features` | [n_atoms, 4, channels] | added to the first scalars (row 0) and vectors (rows 1 to 3: x, y, z) |
| `edge_inputs` | [n_edges, n_basis] | added to the radial basis |
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.backbones.keys import EDGE_INPUTS, INPUT_FEATURES


def input_features(graph: dict[str, Tensor]) -> Tensor | None:
    """Return the known scalars and vectors of atoms [n_atoms, 4, channels]; None where there are none."""
    return graph.get(INPUT_FEATURES)


def edge_inputs(graph: dict[str, Tensor]) -> Tensor | None:
    """Return the known features of edges [n_edges, n_basis]; None where there are none."""
    return graph.get(EDGE_INPUTS)


def add_inputs(features: Tensor, inputs: Tensor) -> Tensor:
    """Add `inputs` [n_atoms, 4, channels] to `features` [n_atoms, n, channels]; vectors only where n is at least 4."""
    n = min(features.shape[1], 4)
    return torch.cat([features[:, :n] + inputs[:, :n], features[:, n:]], dim=1)
