"""Molecules: pairs of frames of time-ordered trajectories in the layouts of MD17.

Archives have `R` and `z`, as published by sGDML, or `coords` and `nuclear_charges`; energies and forces are not used. Frames
follow each other in time. Velocities are differences of adjacent frames, x(t+1) - x(t), so the unit of time is one
frame. Lengths are in Angstrom.

The protocol is that of Huang et al. (GMN, arXiv:2203.06442), also used by Cen et al. (arXiv:2410.11443). Only heavy
atoms are used. Edges are bonds (shorter than 1.6 Angstrom in the first frame) and second neighbours. The frame 3000
frames later is predicted. Of the frames from 10000 to 10000 before the end, 10 % are drawn for training, 5 % for
validation and 5 % for testing (seed 100), and the first 500, 2000 and 2000 of these are used. In files of fewer than
200000 frames, 5 % of the frames instead of 10000 are left out at either end. The draw uses numpy's default generator,
not the original one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlff_calc.datasets.archive import CURE, archive_keys, numbers_of, one_number, one_text, read_arrays
from mlff_calc.datasets.motion.edges import bonds, nearest_edges, within_hops
from mlff_calc.datasets.motion.sample import MotionSample, Pairs, check_sample
from mlff_calc.datasets.splits import PARTS
from mlff_calc.errors import DatasetError

HORIZON = 3000  # frames between the two frames of a pair; a larger horizon is harder to predict
MARGIN = 10_000  # frames left out at each end of a trajectory; a larger margin leaves fewer frames to draw from
SHARES = {"train": 0.1, "valid": 0.05, "test": 0.05}  # fractions of the frames that are drawn, by part
USED = {"train": 500, "valid": 2000, "test": 2000}  # numbers of the drawn frames that are used, by part
SEED = 100  # seed of the drawn frames
MAX_STEP = 0.5
"""Largest distance (Angstrom) that an atom may move between adjacent frames; raising it accepts gaps in time."""
_BLOCK = 10_000  # number of frames checked at once


@dataclass(frozen=True, eq=False)
class MoleculeTrajectory:
    """Frames of a trajectory in order.

    Attributes:
        positions: positions [n_frames, n, 3] in Angstrom, in the precision of the file.
        numbers: atomic numbers [n].
        edges: edges of the graph of bonds [2, n_edges].
        flags: 1 for edges that are bonds, 0 otherwise [n_edges, 1].
        bonded: 1 where two atoms are bonded [n, n].
        path: trajectory file.
        velocities: velocities [n_frames, n, 3] in Angstrom/fs; None where the file has none.
        timestep: time between frames in fs; None where the file does not say.
    """

    positions: NDArray[np.floating]
    numbers: NDArray[np.int64]
    edges: NDArray[np.int64]
    flags: NDArray[np.float64]
    bonded: NDArray[np.float64]
    path: Path
    velocities: NDArray[np.floating] | None = None
    timestep: float | None = None


def open_molecules(path: Path, *, horizon: int | None, hops: int, heavy_atoms: bool, neighbors: int | None) -> Pairs:
    """Read a molecular trajectory, for pairs of frames.

    Args:
        path: trajectory file.
        horizon: number of frames between start and target; None for 3000.
        hops: largest number of bonds that an edge spans.
        heavy_atoms: whether to leave hydrogens out.
        neighbors: number of nearest neighbours to connect instead; None for edges along bonds.

    Returns:
        Function that returns the pairs of a part.

    Raises:
        DatasetError: the file cannot be read, its frames do not follow each other in time or are fewer than the horizon
            needs, the order of atoms changes, or positions are not finite.
    """
    trajectory = read_trajectory(path, hops, heavy_atoms=heavy_atoms)
    step = HORIZON if horizon is None else horizon
    parts = _draw_parts(path, len(trajectory.positions), step)
    return functools.partial(_pairs, trajectory, parts, step, neighbors)


def _pairs(
    trajectory: MoleculeTrajectory,
    parts: dict[str, NDArray[np.int64]],
    step: int,
    neighbors: int | None,
    part: str | None,
    limit: int | None,
) -> list[MotionSample]:
    """Return the pairs of a part."""
    starts = np.concatenate([parts[name] for name in PARTS if part in (None, name)])
    if len(starts) == 0:
        raise DatasetError(
            f"{trajectory.path}: of its {len(trajectory.positions)} frames, the {step} of the horizon and the margins leave "
            f"too few for part '{part}' ({SHARES[part or 'train']:.0%} of them). Make a longer trajectory, or give "
            "a smaller `horizon`."
        )
    return [_pair(trajectory, int(start), step, neighbors) for start in starts[:limit]]


def read_trajectory(path: Path, hops: int = 2, *, heavy_atoms: bool = False) -> MoleculeTrajectory:
    """Read and check the frames of a file, and build the graph of the molecule.

    Args:
        path: trajectory file.
        hops: largest number of bonds that an edge spans.
        heavy_atoms: whether to leave hydrogens out.

    Raises:
        DatasetError: the file cannot be read, its frames do not follow each other in time, the order of atoms changes, or
            values are not finite.
    """
    keys = archive_keys(path)
    if "R_train" in keys or "old_indices" in keys:
        raise DatasetError(
            f"{path} is revised MD17, or a cut of it, whose frames do not follow each other in time. Take the original MD17 "
            "archive, or make a trajectory with `mlff data trajectory`."
        )
    names = ("R", "z") if {"R", "z"} <= keys else ("coords", "nuclear_charges")
    arrays = read_arrays(path, [*names, *({"r_unit", "v_unit", "V", "timestep_fs"} & keys)])
    unit = one_text(path, "r_unit", arrays["r_unit"]) if "r_unit" in arrays else "Ang"
    if not unit.lower().startswith("ang"):
        raise DatasetError(f"{path}: r_unit is {unit!r}; bonds are found in Angstrom, so that positions must be in it")
    positions = numbers_of(path, names[0], arrays[names[0]], ["n_frames", "n_atoms", 3])
    numbers = _one_order(path, names[1], arrays[names[1]], positions.shape[:2])
    _check_frames(path, positions)
    first = np.asarray(positions[0], dtype=np.float64)
    kept = np.nonzero(numbers > 1)[0] if heavy_atoms else np.arange(len(numbers))
    if heavy_atoms and len(kept) < 2 <= len(numbers):
        raise DatasetError(
            f"{path}: without hydrogens {len(kept)} of {len(numbers)} atoms are left, and at least two are needed. Keep "
            "the hydrogens: heavy_atoms: false."
        )
    edges, flags = within_hops(bonds(first[kept]), len(kept), hops)
    bonded = np.zeros((len(kept), len(kept)))
    bonded[edges[0], edges[1]] = flags[:, 0]
    velocities = _velocities(path, arrays, positions.shape)
    timestep = one_number(path, "timestep_fs", arrays["timestep_fs"]) if "timestep_fs" in arrays else None
    if timestep is not None and not 0.0 < timestep < np.inf:
        raise DatasetError(f"{path}: timestep_fs is {timestep}; give the time between frames in fs")
    velocities = None if velocities is None else velocities[:, kept]
    return MoleculeTrajectory(positions[:, kept], numbers[kept], edges, flags, bonded, path, velocities, timestep)


def _velocities(path: Path, arrays: dict[str, NDArray], shape: tuple[int, ...]) -> NDArray[np.floating] | None:
    """Velocities of all frames, Angstrom/fs; None where the file has none."""
    if "V" not in arrays:
        return None
    unit = one_text(path, "v_unit", arrays["v_unit"]) if "v_unit" in arrays else "unknown"
    if unit != "Angstrom/fs":
        raise DatasetError(f"{path}: v_unit is {unit!r}, and V is read in Angstrom/fs; convert them, or leave V out")
    velocities = numbers_of(path, "V", arrays["V"], list(shape))
    bad = np.flatnonzero(~np.isfinite(velocities).all(axis=(1, 2)))
    if len(bad):
        raise DatasetError(f"{path}, frame {bad[0]}: a velocity is not finite (NaN or infinity). Cut the file before it.")
    return velocities


def _one_order(path: Path, name: str, numbers: NDArray, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the atomic numbers, which must be the same in every frame."""
    numbers = numbers_of(path, name, numbers, shape if numbers.ndim == 2 else shape[1:], whole=True)
    if numbers.ndim == 2:
        other = np.nonzero((numbers != numbers[0]).any(axis=1))[0]
        if len(other):
            raise DatasetError(
                f"{path}, frame {int(other[0])}: '{name}' is {numbers[other[0]].tolist()}, and {numbers[0].tolist()} in "
                "frame 0. The order of atoms must not change in a trajectory; sort the atoms of this frame, or cut the file "
                "there."
            )
        numbers = numbers[0]
    wrong = np.nonzero((numbers < 1) | (numbers > 118))[0]
    if len(wrong):
        raise DatasetError(
            f"{path}: '{name}' holds {numbers[wrong[0]]} for atom {wrong[0]}, expected atomic numbers from 1 to 118; {CURE}"
        )
    return numbers


def _check_frames(path: Path, positions: NDArray[np.floating]) -> None:
    """Check that positions are finite, and that adjacent frames are adjacent in time."""
    for begin in range(0, len(positions), _BLOCK):
        block = np.asarray(positions[begin : begin + _BLOCK + 1], dtype=np.float64)
        finite = np.isfinite(block).all(axis=2)
        if not finite.all():
            frame, atom = (int(index) for index in np.argwhere(~finite)[0])
            raise DatasetError(
                f"{path}, frame {begin + frame}, atom {atom}: the position is not finite (NaN or infinity). Cut the file "
                "before this frame."
            )
        with np.errstate(over="ignore"):
            moved = np.linalg.norm(np.diff(block, axis=0), axis=2)
        if moved.size and moved.max() > MAX_STEP:
            frame, atom = (int(index) for index in np.argwhere(moved > MAX_STEP)[0])
            raise DatasetError(
                f"{path}, frame {begin + frame + 1}, atom {atom}: it is {moved[frame, atom]:.2f} Angstrom from where it was "
                f"one frame before, and atoms do not move so far ({MAX_STEP:g}). Either the order of atoms changes there, "
                "or the frames do not follow each other in time; sort the atoms, or cut the file there."
            )


def _draw_parts(path: Path, n_frames: int, step: int) -> dict[str, NDArray[np.int64]]:
    """Draw the start frames of every part as in the protocol."""
    margin = min(MARGIN, n_frames // 20)
    begin, end = margin, n_frames - max(margin, step + 1)
    if end <= begin:
        raise DatasetError(
            f"{path} has {n_frames} frames, and pairs {step} frames apart need at least {step + 2 + margin}: frames closer "
            "than the horizon. Make a longer trajectory, or give a smaller `horizon`."
        )
    order = begin + np.random.default_rng(SEED).permutation(end - begin)
    parts, taken = {}, 0
    for name in PARTS:
        size = int(SHARES[name] * (end - begin))
        parts[name] = order[taken : taken + min(size, USED[name])]
        taken += size
    return parts


def _pair(trajectory: MoleculeTrajectory, start: int, step: int, neighbors: int | None) -> MotionSample:
    """Build one pair of frames."""
    x, end = trajectory.positions, start + step
    place = f"{trajectory.path}, frames {start} and {end}"
    here, next_, there, after = (np.asarray(x[i], dtype=np.float64) for i in (start, start + 1, end, end + 1))
    edges, flags = trajectory.edges, trajectory.flags
    if neighbors is not None:
        edges = nearest_edges(here, neighbors, place)
        flags = trajectory.bonded[edges[0], edges[1]][:, None]
    sample = MotionSample(
        here, next_ - here, there, after - there, trajectory.numbers, np.zeros((len(here), 0)), edges, flags, float(step),
        place,
    )  # fmt: skip
    return check_sample(sample)
