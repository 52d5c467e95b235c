"""Small artificial samples of motion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mlff_calc.datasets.motion import MotionSample


def complete(n: int) -> np.ndarray:
    """Return all ordered pairs [2, n (n - 1)]."""
    i, j = np.nonzero(~np.eye(n, dtype=bool))
    return np.stack([i, j])


@pytest.fixture
def make_sample() -> Callable[..., MotionSample]:
    """Function that makes a sample of `n` particles at random positions, with charges as scalars and products on edges."""

    def make(n: int = 5, seed: int = 0) -> MotionSample:
        random = np.random.default_rng(seed)
        positions, velocities = random.normal(size=(n, 3)), 0.5 * random.normal(size=(n, 3))
        charges, edges = random.choice([-1.0, 1.0], size=n), complete(n)
        return MotionSample(
            positions=positions,
            velocities=velocities,
            target_positions=positions + velocities + 0.1 * random.normal(size=(n, 3)),
            target_velocities=0.9 * velocities,
            kinds=1 + np.arange(n) % 2,
            scalars=charges[:, None],
            edges=edges,
            edge_scalars=(charges[edges[0]] * charges[edges[1]])[:, None],
            horizon=1.0,
            place=f"made up, seed {seed}",
        )

    return make
