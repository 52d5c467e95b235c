"""Conversion of a sample of motion to a graph."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from mlff_calc.backbones.keys import EDGE_SCALARS, NODE_SCALARS
from mlff_calc.datasets.motion import MotionSample
from mlff_calc.errors import StructureError
from mlff_calc.graph.keys import declare

DRIFT: Final = declare(
    "drift", "atom", (3,), None, "length", "displacements at constant velocity over the horizon"
)


def motion_graph(sample: MotionSample) -> dict[str, Tensor]:
    """Build the graph of a sample's first frame, with the edges that the sample lists.

    Args:
        sample: positions, velocities, kinds, scalars and edges of n particles.

    Returns:
        Graph with the input keys, `atomic_numbers` = kinds, edges sorted by centre, no cell, and in addition
        `velocities`, `node_scalars`, `edge_scalars` and `horizon`.

    Raises:
        StructureError: values are not finite, shapes do not fit, an edge has no length, leads nowhere or to its own
            particle, or the horizon is not positive; the message names the sample.
    """
    n_atoms = len(sample.kinds)
    _check_finite(sample)
    edges = np.asarray(sample.edges, dtype=np.int64).reshape(2, -1)
    _check_shapes(sample, edges.shape[1])
    outside = edges[(edges < 0) | (edges >= n_atoms)]
    if len(outside):
        raise StructureError(
            f"{sample.place}: an edge names particle {outside[0]} of {n_atoms}; number particles from 0, without gaps"
        )
    loop = np.flatnonzero(edges[0] == edges[1])
    if len(loop):
        raise StructureError(
            f"{sample.place}, edge {loop[0]}: it connects particle {edges[0, loop[0]]} with itself; take this edge out"
        )
    order = np.argsort(edges[0], kind="stable")
    edges = np.ascontiguousarray(edges[:, order])
    vectors = sample.positions[edges[1]] - sample.positions[edges[0]]
    short = np.flatnonzero(np.abs(vectors).max(axis=1, initial=0.0) < 1e-8)
    if len(short):
        i, j = edges[:, short[0]]
        raise StructureError(
            f"{sample.place}: particles {i} and {j} are at the same place, so that their edge has no direction; look for a "
            "particle that was written twice, or leave the frame out"
        )
    scalars = np.asarray(sample.edge_scalars, dtype=np.float64).reshape(edges.shape[1], -1) if edges.size else None
    width = np.asarray(sample.edge_scalars).shape[-1]
    return {
        "atomic_numbers": torch.from_numpy(np.array(sample.kinds, dtype=np.int64)),
        "system_index": torch.zeros(n_atoms, dtype=torch.int64),
        "positions": _double(sample.positions),
        "velocities": _double(sample.velocities),
        NODE_SCALARS: _double(sample.scalars).reshape(n_atoms, -1),
        "edge_index": torch.from_numpy(edges),
        "edge_vec": _double(vectors).reshape(-1, 3),
        EDGE_SCALARS: torch.zeros(0, width, dtype=torch.float64) if scalars is None else _double(scalars[order]),
        "cell": torch.zeros(1, 3, 3, dtype=torch.float64),
        "pbc": torch.zeros(1, 3, dtype=torch.bool),
        "horizon": torch.tensor([float(sample.horizon)], dtype=torch.float64),
    }


def _double(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _check_shapes(sample: MotionSample, n_edges: int) -> None:
    """Check that shapes fit the numbers of particles and edges, and that kinds and horizon are valid.

    Raises:
        StructureError: a check fails; the message names the sample, the value and what is expected.
    """
    n_atoms = len(sample.kinds)
    rows = {"positions": n_atoms, "velocities": n_atoms, "scalars": n_atoms, "edge_scalars": n_edges}
    for name, expected in rows.items():
        found = np.asarray(getattr(sample, name)).shape
        width = 3 if name in ("positions", "velocities") else found[-1]
        if found != (expected, width):
            raise StructureError(f"{sample.place}: {name} has shape {list(found)}, expected [{expected}, {width}]")
    wrong = [int(kind) for kind in sample.kinds if not 0 < kind < 119]
    if wrong:
        raise StructureError(f"{sample.place}: kinds holds {wrong[0]}; give numbers from 1 to 118")
    if not 0.0 < float(sample.horizon) < np.inf:
        raise StructureError(f"{sample.place}: horizon is {sample.horizon}; give a time above 0")


def _check_finite(sample: MotionSample) -> None:
    for name in ("positions", "velocities", "scalars", "edge_scalars"):
        bad = np.argwhere(~np.isfinite(np.asarray(getattr(sample, name), dtype=np.float64)))
        if len(bad):
            raise StructureError(
                f"{sample.place}: {name} of number {int(bad[0][0])} are not finite; leave the frame out, or mend the file"
            )
