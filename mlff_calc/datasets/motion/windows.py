"""Windows of a molecular trajectory: a first state, and later times up to a horizon.

Files are those of `molecules.py`. Velocities are those of the file, or central differences of positions where it has none,
for which the first and last frames are left out. Parts follow each other in time, with a gap of one horizon between them,
since frames of a random split would be near frames of the training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlff_calc.datasets.motion.edges import nearest_edges, within_hops
from mlff_calc.datasets.motion.molecules import MoleculeTrajectory, read_trajectory
from mlff_calc.datasets.motion.sample import MotionSample, check_sample
from mlff_calc.datasets.splits import PARTS
from mlff_calc.errors import DatasetError
from mlff_calc.graph.bonds import bonds_of

TIMESTEP = 0.5
"""Time between frames of files that do not say it (MD17), fs."""
MOST_SPACING = 1.0
"""Longest time between frames whose differences are velocities, and second differences accelerations, fs."""


@dataclass(frozen=True, eq=False)
class Run:
    """All frames of a trajectory.

    Attributes:
        positions: [n_frames, n, 3] Angstrom.
        velocities: [n_frames, n, 3] Angstrom/fs.
        numbers: Atomic numbers [n].
        timestep: Time between frames, fs.
        path: File.
        differences: Whether velocities are differences of positions.
    """

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    numbers: NDArray[np.int64]
    timestep: float
    path: Path
    differences: bool

    def of_atoms(self, chosen: NDArray[np.int64]) -> Run:
        """The same run of some of its atoms."""
        return replace(
            self, positions=self.positions[:, chosen], velocities=self.velocities[:, chosen], numbers=self.numbers[chosen]
        )


@dataclass(frozen=True, eq=False)
class Windows:
    """First frames and later frames.

    Attributes:
        run: All frames.
        starts: Numbers of the first frames [n_windows].
        ahead: Frames from the first to each later one [n_windows, n_times], rising, at least 1.
        span: First possible first frame of the part, and the one after the last.
        frames: Horizon in frames.
        irregular: Whether times are drawn.
    """

    run: Run
    starts: NDArray[np.int64]
    ahead: NDArray[np.int64]
    span: tuple[int, int]
    frames: int
    irregular: bool

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def times(self) -> NDArray[np.float64]:
        """Later times [n_windows, n_times], fs."""
        return np.asarray(self.ahead * self.run.timestep, dtype=np.float64)

    @property
    def horizon(self) -> float:
        """Longest time, fs."""
        return self.frames * self.run.timestep

    def place(self, number: int) -> str:
        """Name of a window, for messages."""
        return f"{self.run.path}, {self.frames} frames from {int(self.starts[number])} on"

    def evenly(self, n: int) -> NDArray[np.int64]:
        """At most `n` possible first frames of the part, evenly spaced."""
        low, high = self.span
        return np.unique(np.linspace(low, high - 1, min(n, high - low)).astype(np.int64))


def read_run(path: Path, timestep: float | None = None, *, otherwise: float | None = None) -> Run:
    """Read a trajectory with all its atoms.

    Args:
        path: File in the layout of MD17.
        timestep: Time between frames, fs; None for that of the file.
        otherwise: Time between frames of a file that does not say it, fs; None for 0.5.

    Raises:
        DatasetError: The file cannot be read, is not ordered in time, or says another timestep.
    """
    found: MoleculeTrajectory = read_trajectory(path)
    if timestep is not None and found.timestep is not None and abs(timestep - found.timestep) > 1e-9:
        raise DatasetError(f"{path} says that frames are {found.timestep:g} fs apart, not {timestep:g}; leave timestep out")
    step = timestep or found.timestep or otherwise or TIMESTEP
    positions = np.asarray(found.positions, dtype=np.float64)
    if found.velocities is not None:
        return Run(positions, np.asarray(found.velocities, dtype=np.float64), found.numbers, step, path, differences=False)
    if len(positions) < 3:
        raise DatasetError(f"{path} has {len(positions)} frames and no velocities, which need at least 3; make a longer one")
    if step > MOST_SPACING:
        raise DatasetError(
            f"{path} has no velocities, and its frames are {step:g} fs apart: their differences are no velocities of bonds, "
            f"which vibrate in 10 fs. Write velocities (V), or frames that are at most {MOST_SPACING:g} fs apart"
        )
    velocities = (positions[2:] - positions[:-2]) / (2.0 * step)
    return Run(positions[1:-1], velocities, found.numbers, step, path, differences=True)


def split_run(
    run: Run,
    horizon: float,
    limits: Mapping[str, int | None],
    *,
    n_times: int = 8,
    irregular: bool = True,
    shares: tuple[float, float, float] = (0.6, 0.15, 0.25),
    seed: int = 0,
) -> dict[str, Windows]:
    """Cut a run into parts by time, and choose windows in each.

    Args:
        run: All frames.
        horizon: Longest time, fs.
        limits: Largest number of windows by part (`train`, `valid`, `test`, or `all` for the whole run); None for all.
        n_times: Number of later times.
        irregular: Whether times are drawn; otherwise they are multiples of the horizon over `n_times`.
        shares: Shares of the frames of the three parts.
        seed: Seed of the times.

    Raises:
        DatasetError: The horizon is shorter than the times need, or longer than a part.
    """
    frames = round(horizon / run.timestep)
    if frames < n_times or abs(frames * run.timestep - horizon) > 1e-6 * horizon:
        raise DatasetError(
            f"a horizon of {horizon:g} fs is not a whole number of at least {n_times} (the number of times) frames of "
            f"{run.path}, which are {run.timestep:g} fs apart; change the horizon"
        )
    if not irregular and frames % n_times:
        raise DatasetError(
            f"{n_times} regular times do not divide the {frames} frames of a horizon of {horizon:g} fs; change one of them"
        )
    bounds = np.concatenate([[0], np.round(np.cumsum(shares) * len(run.positions))]).astype(int)
    found = {}
    for part, limit in limits.items():
        first, last = (0, len(run.positions)) if part == "all" else bounds[PARTS.index(part) : PARTS.index(part) + 2]
        low, high = int(first) + (frames if first > 0 else 0), int(last) - frames
        if high - low < 1:
            raise DatasetError(
                f"{run.path} has {len(run.positions)} frames, of which {last - first} are for {part}; a horizon of "
                f"{frames} frames, and a gap of as many, leave no first frame there: make a longer trajectory, or shorten it"
            )
        starts = np.unique(np.linspace(low, high - 1, min(limit or high - low, high - low)).astype(np.int64))
        ahead = _ahead(len(starts), frames, n_times, irregular, (seed, ["all", *PARTS].index(part)))
        found[part] = Windows(run, starts, ahead, (low, high), frames, irregular)
    return found


def _ahead(n: int, frames: int, n_times: int, irregular: bool, seed: Any) -> NDArray[np.int64]:  # noqa: ANN401
    if not irregular:
        return np.tile(np.arange(1, n_times + 1) * (frames // n_times), (n, 1))
    random = np.random.default_rng(seed)
    return np.stack([np.sort(random.choice(frames, n_times, replace=False)) + 1 for _ in range(n)])


def window_samples(windows: Windows, *, hops: int = 2, neighbors: int | None = None) -> list[MotionSample]:
    """Pairs of each first frame with each of its later ones, in that order.

    Times are in fs, velocities in Angstrom/fs, and the one scalar of each atom is the time divided by the horizon.

    Args:
        windows: First frames and later frames.
        hops: Largest number of bonds that an edge spans; bonds are those of rollouts (`bonds_of`).
        neighbors: Number of nearest neighbours to connect instead; None for edges along bonds.

    Raises:
        DatasetError: A pair cannot be used by a network.
    """
    run = windows.run
    n, share = len(run.numbers), run.timestep / windows.horizon
    edges, flags = within_hops(np.array(bonds_of(run.numbers, run.positions), dtype=np.int64).reshape(-1, 2).T, n, hops)
    bonded = np.zeros((n, n))
    bonded[edges[0], edges[1]] = flags[:, 0]
    found = []
    for start, later in zip(windows.starts.tolist(), windows.ahead, strict=True):
        here = run.positions[start]
        if neighbors is not None:
            edges = nearest_edges(here, neighbors, f"{run.path}, frame {start}")
            flags = bonded[edges[0], edges[1]][:, None]
        for ahead in later.tolist():
            end = start + ahead
            found.append(check_sample(MotionSample(
                here, run.velocities[start], run.positions[end], run.velocities[end], run.numbers,
                np.full((n, 1), ahead * share), edges, flags, ahead * run.timestep, f"{run.path}, frames {start} and {end}",
            )))  # fmt: skip
    return found
