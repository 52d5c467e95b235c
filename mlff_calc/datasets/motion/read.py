"""Reading motion from files of several formats, which are recognized by their content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from mlff_calc.datasets.archive import archive_keys
from mlff_calc.datasets.motion.amc import find_files, open_asf_amc
from mlff_calc.datasets.motion.molecules import open_molecules
from mlff_calc.datasets.motion.nbody_files import open_nbody
from mlff_calc.datasets.motion.sample import MotionSample
from mlff_calc.datasets.motion.skeleton import open_mocap
from mlff_calc.datasets.splits import PARTS
from mlff_calc.errors import DatasetError

MOTION_FORMATS = ("nbody", "md17", "mocap", "asf_amc")
_TELLING_KEYS = (
    ("nbody", {"positions", "velocities", "charges", "frame_interval"}),
    ("md17", {"R", "z"}),
    ("md17", {"coords", "nuclear_charges"}),
    ("md17", {"R_train", "z"}),  # not ordered in time, which the reader reports
)
_Part = TypeVar("_Part", str, str | None)


def read_motion(
    path: str | Path,
    *,
    part: str | None,
    format: str | None = None,
    horizon: int | None = None,
    start: int | None = None,
    hops: int = 2,
    heavy_atoms: bool = True,
    neighbors: int | None = None,
    limit: int | None = None,
) -> list[MotionSample]:
    """Read pairs of frames from a file of trajectories.

    Args:
        path: npz archive, an .asf file with .amc files beside it, or a folder of these.
        part: `train`, `valid` or `test`, as defined by the file or its protocol; None for all of them.
        format: one of MOTION_FORMATS; None to tell by content.
        horizon: number of frames between start and target; None for that of the protocol: 10 (N-body), 3000
            (molecules), 30 (motion capture).
        start: number of the start frame, for N-body files only; None for 30.
        hops: largest number of bonds or bones that an edge spans (molecules and skeletons).
        heavy_atoms: whether to leave the hydrogens of molecules out.
        neighbors: number of nearest neighbours to connect instead, in both directions.
        limit: number of pairs to take, from the first on; None for all.

    Returns:
        The pairs, at least one.

    Raises:
        DatasetError: the file does not exist, a format or part is unknown, an option does not fit the format, a
            trajectory is shorter than the horizon, positions are not finite, bodies coincide, or the order of atoms
            changes.
    """
    how: dict[str, Any] = {"format": format, "horizon": horizon, "start": start, "hops": hops}
    how |= {"heavy_atoms": heavy_atoms, "neighbors": neighbors}
    return read_motion_parts(path, {part: limit}, **how)[part]


def read_motion_parts(
    path: str | Path,
    limits: Mapping[_Part, int | None],
    *,
    format: str | None = None,
    horizon: int | None = None,
    start: int | None = None,
    hops: int = 2,
    heavy_atoms: bool = True,
    neighbors: int | None = None,
) -> dict[_Part, list[MotionSample]]:
    """Read pairs of frames of several parts from a file of trajectories, which is read once.

    Args:
        path: npz archive, an .asf file with .amc files beside it, or a folder of these.
        limits: number of pairs of each part; None for all.
        format: format as in `read_motion`, like all other options.
        horizon: number of frames between start and target.
        start: number of the start frame.
        hops: largest number of bonds or bones that an edge spans.
        heavy_atoms: whether to leave hydrogens out.
        neighbors: number of nearest neighbours to connect instead.

    Returns:
        The pairs by part, at least one for each.

    Raises:
        DatasetError: see `read_motion`.
    """
    path = Path(path)
    for part, limit in limits.items():
        _check_options(path, part, format, {"horizon": horizon, "hops": hops, "neighbors": neighbors, "limit": limit})
    found = find_format(path) if format is None else format
    if start is not None and found != "nbody":
        raise DatasetError(
            f"start = {start}: {path} is of format {found}, whose protocol draws first frames. Leave it out."
        )
    if found == "nbody":
        pairs = open_nbody(path, start=start, horizon=horizon, neighbors=neighbors)
    elif found == "md17":
        pairs = open_molecules(path, horizon=horizon, hops=hops, heavy_atoms=heavy_atoms, neighbors=neighbors)
    else:
        opener = open_mocap if found == "mocap" else open_asf_amc
        pairs = opener(path, horizon=horizon, hops=hops, neighbors=neighbors)
    return {part: pairs(part, limit) for part, limit in limits.items()}


def motion_files(path: Path, format: str | None = None) -> list[Path]:
    """List the files that `read_motion` reads for a path.

    Args:
        path: file or folder.
        format: one of MOTION_FORMATS; None to tell by content.

    Returns:
        The file itself; for `asf_amc` the skeleton and its motions.

    Raises:
        DatasetError: the format is unknown, or there is not exactly one skeleton, or no motion.
    """
    if (find_format(path) if format is None else format) != "asf_amc":
        return [path]
    skeleton, motions = find_files(path)
    return [skeleton, *motions]


def find_format(path: Path) -> str:
    """Recognize the format of a file by its content.

    Args:
        path: file or folder.

    Returns:
        One of MOTION_FORMATS.

    Raises:
        DatasetError: the format is unknown.
    """
    if path.is_dir() or path.suffix.lower() in (".asf", ".amc"):
        return "asf_amc"
    keys = archive_keys(path)
    for name, telling in _TELLING_KEYS:
        if telling <= keys:
            return name
    if "edges" in keys and any(key.startswith("split_") for key in keys):
        return "mocap"
    raise DatasetError(
        f"{path} holds the arrays {sorted(keys)[:12]}, which no known format of motion has: N-body (positions, velocities, "
        "charges, frame_interval), MD17 (R, z or coords, nuclear_charges), motion capture (X.., edges, split_..)"
    )


def _check_options(path: Path, part: str | None, format: str | None, counts: dict[str, int | None]) -> None:
    """Check the options that are common to all formats."""
    if part is not None and part not in PARTS:
        raise DatasetError(f"unknown part '{part}' of {path}; known: {', '.join(PARTS)}")
    if format is not None and format not in MOTION_FORMATS:
        raise DatasetError(f"unknown format '{format}' of {path}; known: {', '.join(MOTION_FORMATS)}")
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or value < 1):
            raise DatasetError(f"{name} = {value}: give a positive number, or leave it out")
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder; check the spelling")
