"""Files of N-body trajectories: written by the simulator, read as pairs of frames.

| key | shape | content |
|---|---|---|
| `positions`, `velocities` | [n_traj, n_kept, n, 3] | float32 or float64 |
| `charges` | [n_traj, n] | 1 or -1 |
| `frames` | [n_kept] | numbers of the frames that are kept |
| `frame_interval` | | time between two frames |
| `split` | [n_traj] | 0 train, 1 valid, 2 test |
| `protocol`, `seed` | | options that the file was made with |
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlff_calc.datasets.archive import CURE, numbers_of, one_number, read_arrays
from mlff_calc.datasets.motion.edges import complete_edges, nearest_edges
from mlff_calc.datasets.motion.nbody import (
    LAST_FRAME,
    NBODY_PROTOCOLS,
    STEPS_PER_FRAME,
    TIMESTEP,
    Progress,
    draw_start,
    random_rotations,
    simulate,
)
from mlff_calc.datasets.motion.sample import MotionSample, Pairs, check_sample
from mlff_calc.datasets.splits import PARTS
from mlff_calc.errors import DatasetError, OptionError
from mlff_calc.whole_files import replacing

START, HORIZON = 30, 10  # default number of the first frame of a pair, and of frames between the two frames
KEYS = ["positions", "velocities", "charges", "frames", "frame_interval", "split"]


@dataclass(frozen=True, kw_only=True)
class NBodyOptions:
    """Options of a file of trajectories.

    Attributes:
        protocol: one of NBODY_PROTOCOLS.
        n_bodies: number of bodies in each trajectory.
        train, valid, test: number of trajectories of each part, which does not affect the other parts.
        seed: seed of everything random.
        frames: numbers of the frames to keep, ascending; None keeps all from 0 to 50.
        dtype: dtype of positions and velocities in the file, float32 or float64.
    """

    protocol: str = "egnn"
    n_bodies: int = 5
    train: int = 3000
    valid: int = 2000
    test: int = 2000
    seed: int = 43
    frames: tuple[int, ...] | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.protocol not in NBODY_PROTOCOLS:
            raise OptionError(f"unknown N-body protocol '{self.protocol}'. Choose {' or '.join(NBODY_PROTOCOLS)}.")
        if self.n_bodies < 2:
            raise OptionError(f"bodies = {self.n_bodies}: a body alone feels no force. Give at least 2.")
        for name in PARTS:
            if getattr(self, name) < 0:
                raise OptionError(
                    f"{name} = {getattr(self, name)}: must not be negative. Give a number of trajectories."
                )
        if self.train + self.valid + self.test == 0:
            raise OptionError("train, valid and test are all 0, so that there is nothing to make. Give one a number.")
        if self.seed < 0:
            raise OptionError(f"seed = {self.seed}: must not be negative. Give 0 or more.")
        if self.dtype not in ("float32", "float64"):
            raise OptionError(f"dtype = '{self.dtype}' is not known. Choose float32 or float64.")
        frames = self.kept_frames
        if not frames or frames[0] < 0 or any(b <= a for a, b in pairwise(frames)):
            raise OptionError(f"frames = {','.join(map(str, frames))}: give numbers that rise, from 0, like 30,40.")

    @property
    def kept_frames(self) -> tuple[int, ...]:
        """Return the numbers of the frames in the file."""
        return tuple(range(LAST_FRAME + 1)) if self.frames is None else self.frames


def make_nbody(options: NBodyOptions, progress: Progress | None = None) -> dict[str, NDArray[Any]]:
    """Simulate every trajectory of a file.

    Args:
        options: options of the file.
        progress: function called with the numbers of finished and of all trajectories.

    Returns:
        The arrays of the file.
    """
    sizes = [options.train, options.valid, options.test]
    dtype = np.float32 if options.dtype == "float32" else np.float64
    made: dict[str, list[NDArray[Any]]] = {"positions": [], "velocities": [], "charges": []}
    for part, size in enumerate(sizes):
        start = draw_start(options.protocol, options.n_bodies, size, [options.seed, part])
        done, total = sum(sizes[:part]), sum(sizes)
        heard = None if progress is None else _shifted(progress, done, total)
        positions, velocities = simulate(start, options.kept_frames, progress=heard, dtype=np.float64)
        if options.protocol == "hegnn" and PARTS[part] == "test":
            turns = random_rotations(size, [options.seed, part, 2])
            positions, velocities = (np.einsum("txy,tfny->tfnx", turns, array) for array in (positions, velocities))
        made["positions"].append(positions.astype(dtype))
        made["velocities"].append(velocities.astype(dtype))
        made["charges"].append(start.charges)
    arrays = {name: np.concatenate(parts) for name, parts in made.items()}
    return {
        **arrays,
        "frames": np.asarray(options.kept_frames, dtype=np.int64),
        "frame_interval": np.asarray(STEPS_PER_FRAME * TIMESTEP),
        "split": np.repeat(np.arange(3, dtype=np.int8), sizes),
        "protocol": np.asarray(options.protocol),
        "seed": np.asarray(options.seed),
    }


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    return lambda count, _: progress(done + count, total)


def save_archive(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write an archive atomically.

    Args:
        path: file to write; its folder is created if necessary.
        arrays: content of the file.

    Raises:
        OSError: the file cannot be written; an older file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy's types include a keyword of its own


def open_nbody(path: Path, *, start: int | None, horizon: int | None, neighbors: int | None) -> Pairs:
    """Read an N-body file, for pairs of frames, one from each trajectory.

    Args:
        path: N-body file.
        start: number of the start frame; None for 30.
        horizon: number of frames between start and target; None for 10.
        neighbors: number of nearest neighbours to connect; None for the complete graph.

    Returns:
            Function that returns the pairs of a part.

    Raises:
        DatasetError: the file cannot be read, lacks the frames, or its arrays do not fit together.
    """
    arrays = _checked(path, read_arrays(path, KEYS))
    first = START if start is None else start
    last = first + (HORIZON if horizon is None else horizon)
    _rows_of(path, arrays["frames"].tolist(), (first, last))
    return functools.partial(_pairs, path, arrays, first, last, neighbors)


def _pairs(
    path: Path,
    arrays: dict[str, NDArray[Any]],
    first: int,
    last: int,
    neighbors: int | None,
    part: str | None,
    limit: int | None,
) -> list[MotionSample]:
    """Return the pairs of a part."""
    here, there = _rows_of(path, arrays["frames"].tolist(), (first, last))
    chosen = np.arange(len(arrays["split"])) if part is None else np.nonzero(arrays["split"] == PARTS.index(part))[0]
    if len(chosen) == 0:
        raise DatasetError(f"{path} has no trajectories of part '{part}'; make it again with --{part} above 0")
    n = arrays["charges"].shape[1]
    complete, kinds = complete_edges(n), np.ones(n, dtype=np.int64)
    time = float(arrays["frame_interval"]) * (last - first)
    samples = []
    for row in chosen[:limit].tolist():
        place = f"{path}, trajectory {row}, frames {first} and {last}"
        x, v = (arrays[name][row].astype(np.float64) for name in ("positions", "velocities"))
        charges = arrays["charges"][row].astype(np.float64)
        edges = complete if neighbors is None else nearest_edges(x[here], neighbors, place)
        sample = MotionSample(
            x[here], v[here], x[there], v[there], kinds, charges[:, None], edges,
            (charges[edges[0]] * charges[edges[1]])[:, None], time, place,
        )  # fmt: skip
        samples.append(check_sample(sample))
    return samples


def _rows_of(path: Path, frames: list[int], wanted: Sequence[int]) -> list[int]:
    """Return the rows of frames in the file."""
    missing = [frame for frame in wanted if frame not in frames]
    if missing:
        held = f"{frames[0]} to {frames[-1]}" if frames == list(range(frames[0], frames[-1] + 1)) else str(frames)
        raise DatasetError(
            f"{path} has no frame {missing[0]}; it holds the frames {held}. Choose `start` and `horizon` among them, or "
            f"make it again with --frames {','.join(map(str, wanted))}."
        )
    return [frames.index(frame) for frame in wanted]


def _checked(path: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Check that arrays are numeric and fit together; numbers of frames and parts become integers."""
    positions = numbers_of(path, "positions", arrays["positions"], ["n_traj", "n_frames", "n", 3])
    n_traj, n_frames, n, _ = positions.shape
    interval = one_number(path, "frame_interval", arrays["frame_interval"])
    if interval <= 0.0:
        raise DatasetError(f"{path}: 'frame_interval' is {interval:g}, expected a time above 0; {CURE}")
    return {
        "positions": positions,
        "velocities": numbers_of(path, "velocities", arrays["velocities"], positions.shape),
        "charges": numbers_of(path, "charges", arrays["charges"], [n_traj, n], finite=True),
        "frames": numbers_of(path, "frames", arrays["frames"], [n_frames], whole=True),
        "split": numbers_of(path, "split", arrays["split"], [n_traj], whole=True),
        "frame_interval": np.asarray(interval),
    }
