"""Charged particles in empty space: the N-body systems used to compare equivariant networks.

    F_i = sum_j q_i q_j (x_i - x_j) / |x_i - x_j|^3,   each component of the sum clipped to +-0.1 / dt

with unit masses, integrated by leapfrog (half a kick, drift, half a kick; dt = 1e-3). Forces are not softened, and
there is no box. Lengths, times and charges have no units. Frame k is reached after 100 k steps; frame 0 is the start.

| protocol | spread of the start | charges | speed at the start | parts |
|---|---|---|---|---|
| `egnn` | (N/5)^(1/3) | +-1 | 0.5, random direction | as drawn |
| `hegnn` | (N/5)^(1/3) + 0.1 | +-1 | 0.5, random direction | every trajectory of `test` is turned by a random rotation |

Sources: Satorras, Hoogeboom and Welling, arXiv:2102.09844; Cen et al., arXiv:2410.11443; the force law is that of Kipf et
al., arXiv:1802.04687.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mlff_calc.errors import DatasetError

TIMESTEP = 1e-3  # time step of leapfrog; a larger one is faster and less accurate
STEPS_PER_FRAME = 100  # steps between frames; a larger number makes frames further apart in time
LAST_FRAME = 50  # default number of the last frame
MAX_FORCE = 0.1 / TIMESTEP  # largest absolute value of a force component; a larger one makes close encounters less stable
SPEED = 0.5  # length of initial velocities; a larger one makes motion faster
NBODY_PROTOCOLS = ("egnn", "hegnn")
_GROUP_SIZE = 10_000  # number of pairs per group, whose arrays fit into the cache of a core
_MIN_TRAJECTORIES, _MAX_TRAJECTORIES = 256, 1024  # smallest and largest number moved together

Progress = Callable[[int, int], None]
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NBodyStart:
    """Initial states of trajectories.

    Attributes:
        positions: positions [n_traj, n, 3].
        velocities: velocities [n_traj, n, 3].
        charges: charges [n_traj, n], each 1 or -1.
    """

    positions: Array
    velocities: Array
    charges: Array


def draw_start(protocol: str, n_bodies: int, n_trajectories: int, seed: int | Sequence[int]) -> NBodyStart:
    """Draw the initial states of trajectories.

    Args:
        protocol: one of NBODY_PROTOCOLS.
        n_bodies: number of bodies in each trajectory.
        n_trajectories: number of trajectories; the first ones do not depend on it.
        seed: seed of the draw, one number or several.

    Returns:
            The initial states.

    Raises:
        DatasetError: the protocol is unknown, there are fewer than two bodies, or a count is negative.
    """
    if protocol not in NBODY_PROTOCOLS:
        raise DatasetError(f"unknown N-body protocol '{protocol}'; known: {', '.join(NBODY_PROTOCOLS)}")
    if n_bodies < 2 or n_trajectories < 0:
        raise DatasetError(
            f"{n_trajectories} trajectories of {n_bodies} bodies: give at least 2 bodies, and no negative count"
        )
    words = [seed] if isinstance(seed, int) else list(seed)
    spread = (n_bodies / 5.0) ** (1.0 / 3.0) + (0.1 if protocol == "hegnn" else 0.0)
    normal = np.random.default_rng([*words, 0]).standard_normal((n_trajectories, n_bodies, 6))
    signs = np.random.default_rng([*words, 1]).random((n_trajectories, n_bodies))
    direction = normal[..., 3:]
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    return NBodyStart(spread * normal[..., :3], SPEED * direction, np.where(signs < 0.5, -1.0, 1.0))


def simulate(
    start: NBodyStart,
    frames: Sequence[int],
    *,
    timestep: float = TIMESTEP,
    steps_per_frame: int = STEPS_PER_FRAME,
    max_force: float = MAX_FORCE,
    progress: Progress | None = None,
    dtype: type[np.floating] = np.float64,
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Simulate every trajectory and keep some frames.

    Each trajectory is the same, to the last bit, no matter which others are simulated beside it.

    Args:
        start: initial states.
        frames: numbers of the frames to keep, ascending; the simulation ends with the last.
        timestep: length of a step; negative values go back in time.
        steps_per_frame: number of steps between frames.
        max_force: limit that each component of a force is clipped to; infinity for none.
        progress: function called with the numbers of finished and of all trajectories.
        dtype: dtype of the kept frames; the simulation itself uses float64.

    Returns:
        Positions and velocities, both [n_traj, n_frames, n, 3].

    Raises:
        DatasetError: `frames` are not ascending from 0 or later, or values are not finite (coincident bodies).
    """
    if not frames or frames[0] < 0 or any(b <= a for a, b in pairwise(frames)):
        raise DatasetError(f"frames {list(frames)}: give numbers that rise, from 0, like 30,40")
    total, n = start.charges.shape
    kept = np.empty((2, total, len(frames), n, 3), dtype=dtype)
    chunk = min(max(_GROUP_SIZE // (n * (n - 1) // 2), _MIN_TRAJECTORIES), _MAX_TRAJECTORIES)
    for begin in range(0, total, chunk):
        part = slice(begin, min(begin + chunk, total))
        system = _Bodies(start, part, timestep, max_force)
        done = 0
        for place, frame in enumerate(frames):
            system.go((frame - done) * steps_per_frame)
            done = frame
            kept[0, part, place] = system.positions.transpose(2, 1, 0)
            kept[1, part, place] = system.velocities.transpose(2, 1, 0)
        if progress is not None:
            progress(part.stop, total)
    if not np.isfinite(kept).all():
        raise DatasetError("two bodies met at one point, where their force has no direction; take another seed")
    return kept[0], kept[1]


def random_rotations(n: int, seed: int | Sequence[int]) -> Array:
    """Draw uniformly distributed rotations.

    Args:
        n: number of rotations.
        seed: seed of the draw.

    Returns:
        Rotation matrices [n, 3, 3].
    """
    if n == 0:
        return np.zeros((0, 3, 3))
    quaternions = np.random.default_rng(seed).standard_normal((n, 4))
    return np.asarray(Rotation.from_quat(quaternions).as_matrix(), dtype=np.float64)


class _Bodies:
    """Trajectories that are moved together. Every array has the trajectories last, so that one call serves all of them.

    Pairs (i, j > i) are processed in groups of whole rows i, small enough for the work arrays to stay in the cache of a
    core.
    """

    def __init__(self, start: NBodyStart, part: slice, timestep: float, max_force: float) -> None:
        self.positions = np.ascontiguousarray(start.positions[part].transpose(2, 1, 0))
        self.velocities = np.ascontiguousarray(start.velocities[part].transpose(2, 1, 0))
        self._timestep, self._max_force = timestep, max_force
        n, size = self.positions.shape[1:]
        self._groups = _row_groups(n, max(1, _GROUP_SIZE // size))
        first, second = np.triu_indices(n, 1)
        charges = start.charges[part].T
        self._products = charges[first] * charges[second]
        largest = max(sum(n - 1 - i for i in group) for group in self._groups)
        self._pairs = np.empty((3, largest, size))
        self._square, self._work = np.empty((largest, size)), np.empty((largest, size))
        self._kick, self._drift = np.empty_like(self.positions), np.empty_like(self.positions)
        self._find_kick()

    def go(self, steps: int) -> None:
        """Make a number of steps."""
        for _ in range(steps):
            self.velocities += self._kick
            np.multiply(self.velocities, self._timestep, out=self._drift)
            self.positions += self._drift
            self._find_kick()
            self.velocities += self._kick

    def _find_kick(self) -> None:
        """Compute the change of the velocities by half a step of the present force."""
        kick = self._kick
        kick.fill(0.0)
        done = 0
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # coincident bodies; reported by `simulate`
            for group in self._groups:
                done = self._add_group(group, done)
        np.minimum(kick, self._max_force, out=kick)
        np.maximum(kick, -self._max_force, out=kick)
        kick *= 0.5 * self._timestep

    def _add_group(self, rows: range, done: int) -> int:
        """Add the forces of the pairs of some rows; returns the number of finished pairs."""
        positions, n = self.positions, self.positions.shape[1]
        ends = np.cumsum([n - 1 - i for i in rows]).tolist()
        blocks = [slice(end - (n - 1 - i), end) for i, end in zip(rows, ends, strict=True)]
        pairs, square, work = self._pairs[:, : ends[-1]], self._square[: ends[-1]], self._work[: ends[-1]]
        for i, block in zip(rows, blocks, strict=True):
            np.subtract(positions[:, i : i + 1], positions[:, i + 1 :], out=pairs[:, block])
        np.multiply(pairs[0], pairs[0], out=square)
        for axis in (1, 2):
            np.multiply(pairs[axis], pairs[axis], out=work)
            square += work
        np.sqrt(square, out=work)
        work *= square
        np.divide(self._products[done : done + ends[-1]], work, out=work)
        pairs *= work
        for i, block in zip(rows, blocks, strict=True):
            self._kick[:, i] += np.add.reduce(pairs[:, block], axis=1)
            self._kick[:, i + 1 :] -= pairs[:, block]
        return done + ends[-1]


def _row_groups(n: int, pairs: int) -> list[range]:
    """Group the rows i of the pairs (i, j > i) into at most `pairs` pairs, or one row."""
    groups, first, count = [], 0, 0
    for i in range(n - 1):
        if count and count + n - 1 - i > pairs:
            groups.append(range(first, i))
            first, count = i, 0
        count += n - 1 - i
    return [*groups, range(first, n - 1)]
