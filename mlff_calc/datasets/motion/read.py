"""Motion from files of several kinds, told apart by what is in them."""

from __future__ import annotations

from pathlib import Path

from mlff_calc.datasets.motion.amc import read_asf_amc
from mlff_calc.datasets.motion.archive import archive_keys
from mlff_calc.datasets.motion.molecules import read_molecules
from mlff_calc.datasets.motion.nbody_files import read_nbody
from mlff_calc.datasets.motion.sample import MotionSample
from mlff_calc.datasets.motion.skeleton import read_mocap
from mlff_calc.datasets.splits import PARTS
from mlff_calc.errors import DatasetError

MOTION_FORMATS = ("nbody", "md17", "mocap", "asf_amc")
_TELLING_KEYS = (
    ("nbody", {"positions", "velocities", "charges", "frame_interval"}),
    ("md17", {"R", "z"}),
    ("md17", {"coords", "nuclear_charges"}),
    ("md17", {"R_train", "z"}),  # not ordered in time; the reader says so
)


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
    """Pairs of frames from a file of trajectories.

    Args:
        path: an npz archive, an .asf file with .amc files beside it, or a folder of these.
        part: `train`, `valid` or `test`, as the file or its protocol says; None for all of them.
        format: one of MOTION_FORMATS; None to tell by content.
        horizon: frames between the two of a pair; None for the protocol's: 10 (N-body), 3000 (molecules), 30 (motion
            capture).
        start: number of the first frame, for N-body files only; None for 30.
        hops: in molecules and skeletons, connect bodies at most so many bonds or bones apart.
        heavy_atoms: leave the hydrogens of molecules out.
        neighbors: connect every body with so many nearest instead, in both directions.
        limit: take the first so many pairs.

    Returns:
        The pairs, at least one.

    Raises:
        DatasetError: no such file, an unknown format or part, an option that does not fit the format, frames closer than
            the horizon, positions that are not finite, coincident bodies, a changed order of atoms.
    """
    path = Path(path)
    _check_options(path, part, format, horizon, hops, neighbors, limit)
    found = find_format(path) if format is None else format
    if start is not None and found != "nbody":
        raise DatasetError(
            f"start = {start}: {path} is of format {found}, whose protocol draws first frames. Leave it out."
        )
    if found == "nbody":
        return read_nbody(path, part, start=start, horizon=horizon, neighbors=neighbors, limit=limit)
    if found == "md17":
        return read_molecules(
            path, part, horizon=horizon, hops=hops, heavy_atoms=heavy_atoms, neighbors=neighbors, limit=limit
        )
    reader = read_mocap if found == "mocap" else read_asf_amc
    return reader(path, part, horizon=horizon, hops=hops, neighbors=neighbors, limit=limit)


def find_format(path: Path) -> str:
    """Tell the format of a file by what is in it.

    Args:
        path: the file or folder.

    Returns:
        One of MOTION_FORMATS.

    Raises:
        DatasetError: no format that is known.
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


def _check_options(
    path: Path,
    part: str | None,
    format: str | None,
    horizon: int | None,
    hops: int,
    neighbors: int | None,
    limit: int | None,
) -> None:
    """Refuse what no format can honour."""
    if part is not None and part not in PARTS:
        raise DatasetError(f"unknown part '{part}' of {path}; known: {', '.join(PARTS)}")
    if format is not None and format not in MOTION_FORMATS:
        raise DatasetError(f"unknown format '{format}' of {path}; known: {', '.join(MOTION_FORMATS)}")
    counts = {"horizon": horizon, "hops": hops, "neighbors": neighbors, "limit": limit}
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or value < 1):
            raise DatasetError(f"{name} = {value}: give a positive number, or leave it out")
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder; check the spelling")
