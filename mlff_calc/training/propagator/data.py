"""Batches of samples of motion, whose graphs are made once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mlff_calc.datasets.motion import MotionSample
from mlff_calc.propagator import motion_graph
from mlff_calc.training.packed import PackedFrames


class MotionPairs(PackedFrames):
    """Graphs and targets of a part of the data, made once.

    Labels are `positions` and `velocities` [n_atoms, 3] at the later time, in the units of the data.

    Args:
        samples: At least one sample.

    Raises:
        StructureError: A sample cannot be a graph; the message names it.
    """

    def __init__(self, samples: Sequence[MotionSample]) -> None:
        graphs = [motion_graph(sample) for sample in samples]
        super().__init__(graphs, [_later(sample) for sample in samples])


def _later(sample: MotionSample) -> dict[str, torch.Tensor]:
    velocities = sample.target_velocities
    if velocities is None:
        velocities = np.full(np.shape(sample.target_positions), np.nan)
    return {
        "positions": torch.from_numpy(sample.target_positions).double(),
        "velocities": torch.from_numpy(velocities).double(),
    }
