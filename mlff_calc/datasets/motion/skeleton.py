"""Skeletons: pairs of frames of motion capture.

A trial is [n_frames, n_joints, 3], the second axis is up, and the floor is at height 0. Velocities are differences of
adjacent frames, x(t+1) - x(t), so the unit of time is one frame. Archives of trials have the keys

| key | shape | content |
|---|---|---|
| `X00`, `X01`, ... | [n_frames, n_joints, 3] | the trials |
| `edges` | [n_bones, 2] | joints that a bone connects |
| `split_train_case01`, `split_val_case00`, `split_test_case03`, ... | [n] | start frames of the pairs of a trial |

Protocol of Xu et al., arXiv:2401.11037: the frame 30 frames later is predicted, edges are bones and second neighbours.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlff_calc.datasets.archive import archive_keys, numbers_of, read_arrays
from mlff_calc.datasets.motion.edges import nearest_edges, within_hops
from mlff_calc.datasets.motion.sample import MotionSample, Pairs, check_sample
from mlff_calc.datasets.splits import PARTS
from mlff_calc.errors import DatasetError

HORIZON = 30  # default number of frames between the two frames of a pair
UP = 1  # index of the vertical axis
_SPLIT = re.compile(r"split_(train|val|valid|test)_case(\w+)")


@dataclass(frozen=True, eq=False)
class Trial:
    """One recording and the start frames of its pairs.

    Attributes:
        positions: positions [n_frames, n_joints, 3].
        starts: start frames [n_pairs].
        part: one of PARTS.
        place: file and trial, for messages.
    """

    positions: NDArray[np.float64]
    starts: NDArray[np.int64]
    part: str
    place: str


def open_mocap(path: Path, *, horizon: int | None, hops: int, neighbors: int | None) -> Pairs:
    """Read an archive of trials, for pairs at the start frames that the archive lists.

    Args:
        path: archive.
        horizon: number of frames between start and target; None for 30.
        hops: largest number of bones that an edge spans.
        neighbors: number of nearest neighbours to connect instead; None for edges along bones.

    Returns:
            Function that returns the pairs of a part.

    Raises:
        DatasetError: the archive cannot be read, or its arrays are invalid.
    """
    splits = {key: match for key in sorted(archive_keys(path)) if (match := _SPLIT.fullmatch(key))}
    trials = []
    arrays = read_arrays(path, ["edges", *splits, *(f"X{match[2]}" for match in splits.values())])
    for key, match in splits.items():
        name = f"X{match[2]}"
        trials.append(
            Trial(
                numbers_of(path, name, arrays[name], ["n_frames", "n_joints", 3]).astype(np.float64),
                numbers_of(path, key, arrays[key], ["n_pairs"], whole=True, empty=True),
                "valid" if match[1] == "val" else match[1],
                f"{path}, trial {name}",
            )
        )
    bones = numbers_of(path, "edges", arrays["edges"], ["n_bones", 2], whole=True)
    return functools.partial(pairs_of, path, trials, bones, HORIZON if horizon is None else horizon, hops, neighbors)


def pairs_of(
    path: Path,
    trials: Sequence[Trial],
    bones: NDArray[np.int64],
    step: int,
    hops: int,
    neighbors: int | None,
    part: str | None,
    limit: int | None,
) -> list[MotionSample]:
    """Build the pairs of frames of trials.

    Args:
        path: file, for messages.
        trials: trials of all parts.
        bones: joints that each bone connects [n_bones, 2].
        step: number of frames between start and target.
        hops: largest number of bones that an edge spans.
        neighbors: number of nearest neighbours to connect instead.
        part: one of PARTS; None for all of them.
        limit: number of pairs to take, from the first on.

    Returns:
        The pairs, in the order of the parts and then of the trials.

    Raises:
        DatasetError: the part has no pairs, a trial is shorter than the horizon, or a bone names a joint that does not
            exist.
    """
    chosen = [trial for name in PARTS for trial in trials if trial.part == name and part in (None, name)]
    if sum(len(trial.starts) for trial in chosen) == 0:
        which = "no pairs of frames" if part is None else f"no pairs of frames of part '{part}'"
        raise DatasetError(f"{path} has {which}; take another file")
    for trial in trials:
        _check_trial(trial, bones, step)
    knows_end = all(trial.starts.max(initial=0) + step + 1 < len(trial.positions) for trial in trials)
    if len({trial.positions.shape[1] for trial in chosen}) > 1:
        raise DatasetError(f"{path}: trials have different numbers of joints; take those of one skeleton")
    flags = within_hops(bones.T, chosen[0].positions.shape[1], hops)
    samples: list[MotionSample] = []
    for trial in chosen:
        for start in trial.starts.tolist():
            if limit is not None and len(samples) == limit:
                return samples
            samples.append(_pair(trial, start, step, flags, neighbors, knows_end=knows_end))
    return samples


def _pair(
    trial: Trial,
    start: int,
    step: int,
    hopped: tuple[NDArray[np.int64], NDArray[np.float64]],
    neighbors: int | None,
    *,
    knows_end: bool,
) -> MotionSample:
    """Build one pair of frames of a trial."""
    x, end = trial.positions, start + step
    place = f"{trial.place}, frames {start} and {end}"
    n = x.shape[1]
    edges, flags = hopped
    if neighbors is not None:
        if not np.isfinite(x[start]).all():
            raise DatasetError(f"{place}: positions are not finite. Take this trial out of the file.")
        bone = np.zeros((n, n))
        one = edges[:, flags[:, 0] == 1.0]
        bone[one[0], one[1]] = 1.0
        edges = nearest_edges(x[start], neighbors, place)
        flags = bone[edges[0], edges[1]][:, None]
    with np.errstate(invalid="ignore"):
        velocities, later = x[start + 1] - x[start], x[end + 1] - x[end] if knows_end else None
    sample = MotionSample(
        x[start], velocities, x[end], later, np.arange(1, n + 1, dtype=np.int64), x[start][:, UP : UP + 1], edges, flags,
        float(step), place,
    )  # fmt: skip
    return check_sample(sample)


def _check_trial(trial: Trial, bones: NDArray[np.int64], step: int) -> None:
    """Check that a trial fits its bones and the horizon."""
    shape = trial.positions.shape
    if shape[1] > 118:
        raise DatasetError(f"{trial.place} has {shape[1]} joints, and 118 can be told apart; leave out some joints")
    lost = np.argwhere((bones < 0) | (bones >= shape[1]))
    if len(lost):
        row, column = lost[0].tolist()
        raise DatasetError(
            f"{trial.place} has {shape[1]} joints, and bone {row} connects joint {bones[row, column]}; number joints from 0"
        )
    loop = np.nonzero(bones[:, 0] == bones[:, 1])[0]
    if len(loop):
        raise DatasetError(
            f"{trial.place}: bone {loop[0]} connects joint {bones[loop[0], 0]} with itself; take this bone out of the file"
        )
    if not len(trial.starts):
        return
    first, last = int(trial.starts.min()), int(trial.starts.max())
    if first < 0 or last + max(step, 1) >= shape[0]:
        raise DatasetError(
            f"{trial.place}: the pair that starts at frame {last if first >= 0 else first} ends {step} frames later, and "
            f"the trial has {shape[0]} frames: they are closer than the horizon. Give a smaller `horizon`."
        )
