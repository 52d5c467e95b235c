"""Acclaim files: positions of joints from a skeleton (.asf) and its motion (.amc).

A bone b with parent p ends at

    x_b = x_p + R_b (length_b direction_b),   R_b = R_p C_b M_b C_b^-1,

with C_b the rotation by the bone's `axis` and M_b that by the frame's angles. Both turn about fixed axes, in the order
of the letters of `axis` (XYZ: about x first). `direction` is in world axes. The root is at `position` plus its
translation and has no C: an `orientation` other than zero is refused, since programs read it differently. Joint 0 is
the root and joint i the end of the i-th bone in the file; lengths are in the file's unit.

Splits follow Huang et al. (GMN, arXiv:2203.06442): trials are divided 11 : 6 : 6 into train, valid and test, and from
each 100 start frames among the first 300 are drawn, with seed 100.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mlff_calc.datasets.motion.sample import MotionSample, Pairs
from mlff_calc.datasets.motion.skeleton import HORIZON, Trial, pairs_of
from mlff_calc.errors import DatasetError

SEED = 100  # seed of the drawn frames
STARTS, AMONG = 100, 300  # number of first frames per trial, and of the frames from which they are drawn
VALID_SHARE = TEST_SHARE = 6 / 23  # fractions of the trials for validation and testing
_SHIFTS, _TURNS = ("tx", "ty", "tz"), ("rx", "ry", "rz")


@dataclass(frozen=True, eq=False)
class Bone:
    """A bone, or the root.

    Attributes:
        name: name in the file.
        parent: index of the parent bone; -1 for the root.
        offset: direction times length [3]; for the root its position.
        axis: rotation C.
        order: letters of `axis` in the order of rotation.
        channels: channels in each frame, some of tx ty tz rx ry rz.
    """

    name: str
    parent: int
    offset: NDArray[np.float64]
    axis: Rotation
    order: str
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Skeleton:
    """Bones of a body, the root first, the others in any order.

    Attributes:
        bones: bones in the order of the file.
        degrees: whether angles are in degrees.
        path: skeleton file.
    """

    bones: tuple[Bone, ...]
    degrees: bool
    path: Path

    @property
    def edges(self) -> NDArray[np.int64]:
        """Joints that each bone connects [n_bones, 2]."""
        pairs = [(i, bone.parent) for i, bone in enumerate(self.bones) if bone.parent >= 0]
        return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)


def open_asf_amc(path: Path, *, horizon: int | None, hops: int, neighbors: int | None) -> Pairs:
    """Read trials, for pairs of frames.

    Args:
        path: folder with one .asf file and its .amc files, an .asf file, or an .amc file with its .asf file beside it.
        horizon: number of frames between start and target; None for 30.
        hops: largest number of bones that an edge spans.
        neighbors: number of nearest neighbours to connect instead; None for edges along bones.

    Returns:
        Function that returns the pairs of a part.

    Raises:
        DatasetError: a file cannot be read, or a trial is shorter than the horizon.
    """
    asf, amcs = find_files(path)
    skeleton = read_asf(asf)
    names = _share_out(len(amcs))
    step = HORIZON if horizon is None else horizon
    trials = []
    for index, (amc, name) in enumerate(zip(amcs, names, strict=True)):
        positions = read_amc(amc, skeleton)
        among = min(AMONG, len(positions) - step - 1)
        if among < 1:
            raise DatasetError(
                f"{amc} has {len(positions)} frames, and pairs {step} frames apart need at least {step + 2}: frames closer "
                "than the horizon. Give a smaller `horizon`, or take the file out."
            )
        drawn = np.random.default_rng([SEED, index]).permutation(among)[:STARTS]
        trials.append(Trial(positions, drawn, name, str(amc)))
    return functools.partial(_pairs, path, trials, (skeleton.edges, step, hops, neighbors))


def _pairs(
    path: Path,
    trials: list[Trial],
    how: tuple[NDArray[np.int64], int, int, int | None],
    part: str | None,
    limit: int | None,
) -> list[MotionSample]:
    """Return the pairs of a part; without a part all of them, in the order of the files."""
    if part is None:
        return pairs_of(path, [replace(trial, part="train") for trial in trials], *how, None, limit)
    if len(trials) < 3:
        raise DatasetError(
            f"{path}: {len(trials)} trials cannot be shared out to train, valid and test. Give at least three .amc files, "
            "or take all pairs (`part=None`, `--part all`)."
        )
    return pairs_of(path, trials, *how, part, limit)


def read_asf(path: Path) -> Skeleton:
    """Read a skeleton.

    Args:
        path: .asf file.

    Returns:
        The skeleton.

    Raises:
        DatasetError: the file cannot be read, lacks a section or field, or has an unknown channel or a bone without
            parent.
    """
    sections = _sections(path)
    for name in ("root", "bonedata", "hierarchy"):
        if name not in sections:
            raise DatasetError(f"{path} has no section :{name}; is it a complete .asf file?")
    units = {words[0].lower(): words[-1].lower() for words in sections.get("units", []) if len(words) > 1}
    degrees = units.get("angle", "deg").startswith("deg")
    root = {words[0].lower(): words[1:] for words in sections["root"]}
    fields = [("root", root), *_bone_fields(path, sections["bonedata"])]
    parents = _parents(path, sections["hierarchy"], [name for name, _ in fields])
    bones = tuple(_bone(path, name, parents[name], found, degrees) for name, found in fields)
    return Skeleton(bones, degrees, path)


def read_amc(path: Path, skeleton: Skeleton) -> NDArray[np.float64]:
    """Compute the positions of a skeleton's joints in every frame of a motion.

    Args:
        path: .amc file.
        skeleton: skeleton of the motion.

    Returns:
            Positions [n_frames, n_joints, 3], in the files' unit of length.

    Raises:
        DatasetError: the file cannot be read, has an unknown bone or no frames, or its channels do not fit the
            skeleton.
    """
    values, degrees = _read_channels(path, skeleton)
    n = len(values["root"])
    positions, world = np.zeros((n, len(skeleton.bones), 3)), {}
    for index in _parents_first(skeleton):
        bone = skeleton.bones[index]
        given = values.get(bone.name, np.zeros((n, 0)))
        turn = bone.axis * _turns(bone, given, degrees) * bone.axis.inv()
        if bone.parent < 0:
            moved = [given[:, bone.channels.index(name)] if name in bone.channels else np.zeros(n) for name in _SHIFTS]
            positions[:, index] = bone.offset + np.stack(moved, axis=1)
            world[index] = turn
        else:
            world[index] = world[bone.parent] * turn
            positions[:, index] = positions[:, bone.parent] + world[index].apply(bone.offset)
    return positions


def _turns(bone: Bone, values: NDArray[np.float64], degrees: bool) -> Rotation:
    """Return the rotations M of a bone in every frame."""
    angles = np.zeros((len(values), 3))
    for place, letter in enumerate(bone.order):
        if f"r{letter}" in bone.channels:
            angles[:, place] = values[:, bone.channels.index(f"r{letter}")]
    return Rotation.from_euler(bone.order, angles, degrees=degrees)  # lower-case letters mean fixed axes


def _parents_first(skeleton: Skeleton) -> Iterator[int]:
    """Iterate over bone indices, every parent before its children."""
    waiting = [0]
    while waiting:
        index = waiting.pop(0)
        yield index
        waiting += [child for child, bone in enumerate(skeleton.bones) if bone.parent == index]


def find_files(path: Path) -> tuple[Path, list[Path]]:
    """Find a skeleton and its motions.

    Args:
        path: folder, .asf file or .amc file.

    Returns:
        The .asf file and the .amc files that belong to it.

    Raises:
        DatasetError: there is not exactly one skeleton, or no motion.
    """
    if path.is_file() and path.suffix.lower() not in (".asf", ".amc"):
        raise DatasetError(f"{path} is no .asf or .amc file; name one, or a folder of them, or take another `format`")
    folder = path if path.is_dir() else path.parent
    skeletons = [path] if path.suffix.lower() == ".asf" else _with_suffix(folder, ".asf")
    if path.suffix.lower() == ".amc" and len(skeletons) > 1:
        skeletons = [asf for asf in skeletons if _belongs(path, asf)]
    if len(skeletons) != 1:
        names = ", ".join(asf.name for asf in skeletons) or "none"
        raise DatasetError(f"{path}: one skeleton is needed, and {folder} has {names} for it. Name the .asf file.")
    asf = skeletons[0]
    if path.suffix.lower() == ".amc":
        return asf, [path]
    motions = _with_suffix(folder, ".amc")
    if len(_with_suffix(folder, ".asf")) > 1:
        motions = [amc for amc in motions if _belongs(amc, asf)]
    if not motions:
        raise DatasetError(f"{folder} has no .amc file for {asf.name}; put the motions beside the skeleton")
    return asf, motions


def _belongs(amc: Path, asf: Path) -> bool:
    """Whether a motion belongs to a skeleton by its name: 10_01.amc belongs to 10.asf, and 103_01.amc does not."""
    return amc.stem == asf.stem or amc.stem.startswith(f"{asf.stem}_")


def _with_suffix(folder: Path, suffix: str) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == suffix)


def _share_out(n: int) -> list[str]:
    """Assign a part to each of at least three trials."""
    n_valid, n_test = max(1, round(VALID_SHARE * n)), max(1, round(TEST_SHARE * n))
    names = ["valid"] * n_valid + ["test"] * n_test + ["train"] * (n - n_valid - n_test)
    order = np.random.default_rng(SEED).permutation(n)
    return [names[place] for place in order.tolist()]


def _read_lines(path: Path) -> list[list[str]]:
    """Read the words of every line, without comments."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error
    return [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _sections(path: Path) -> dict[str, list[list[str]]]:
    """Read the lines of an .asf file by section."""
    sections: dict[str, list[list[str]]] = {}
    name = ""
    for words in _read_lines(path):
        if words[0].startswith(":"):
            name = words[0][1:].lower()
            sections[name] = []
        else:
            sections.setdefault(name, []).append(words)
    return sections


def _bone_fields(path: Path, lines: list[list[str]]) -> list[tuple[str, dict[str, list[str]]]]:
    """Read name and fields of every bone."""
    bones: list[tuple[str, dict[str, list[str]]]] = []
    fields: dict[str, list[str]] = {}
    for words in lines:
        key = words[0].lower()
        if key == "begin":
            fields = {}
        elif key != "end":
            fields.setdefault(key, words[1:])
        elif fields.get("name"):
            bones.append((fields["name"][0], fields))
        else:
            raise DatasetError(f"{path}: bone {len(bones) + 1} of :bonedata has no name; correct the file")
    names = [name for name, _ in bones]
    double = next((name for name in names if names.count(name) > 1 or name == "root"), None)
    if double is not None:
        raise DatasetError(f"{path}: two bones are called {double}; correct the file")
    return bones


def _parents(path: Path, lines: list[list[str]], names: list[str]) -> dict[str, int]:
    """Return the index of every bone's parent; -1 for the root."""
    parents = {"root": -1}
    for parent, *children in lines:
        if parent.lower() in ("begin", "end"):
            continue
        unknown = next((name for name in (parent, *children) if name not in names), None)
        if unknown is not None:
            raise DatasetError(
                f"{path}: :hierarchy names the bone {unknown}, which :bonedata does not have; correct the file"
            )
        for child in children:
            if child in parents:
                raise DatasetError(
                    f"{path}: :hierarchy names {child} as a child twice, or the root as one; correct the file"
                )
            parents[child] = names.index(parent)
    lost = next((name for name in names if not _leads_to_root(name, parents, names)), None)
    if lost is not None:
        raise DatasetError(f"{path}: :hierarchy does not connect the bone {lost} with the root; correct the file")
    return parents


def _leads_to_root(name: str, parents: dict[str, int], names: list[str]) -> bool:
    for _ in names:
        if name not in parents:
            return False
        if parents[name] < 0:
            return True
        name = names[parents[name]]
    return False


def _bone(path: Path, name: str, parent: int, fields: dict[str, list[str]], degrees: bool) -> Bone:
    """Build a bone, or the root, from its fields."""
    place = f"{path}, bone {name}"
    if parent < 0:
        channels = tuple(word.lower() for word in fields.get("order", ()))
        order = "".join(fields.get("axis", ["XYZ"])[:1]).lower()
        offset, angles = (_numbers(place, fields, key, 3, default=0.0) for key in ("position", "orientation"))
        if np.any(angles != 0.0):
            raise DatasetError(
                f"{place}: orientation is {angles.tolist()}, and only 0 0 0 means the same to every program; turn "
                "the motion instead"
            )
        known: tuple[str, ...] = (*_SHIFTS, *_TURNS)
    else:
        channels = tuple(word.lower() for word in fields.get("dof", ()))
        axis = fields.get("axis", ["0", "0", "0", "XYZ"])
        order = axis[3].lower() if len(axis) > 3 else "xyz"
        angles = _numbers(place, {"axis": axis}, "axis", 3)
        offset = _numbers(place, fields, "direction", 3) * _numbers(place, fields, "length", 1)
        known = _TURNS
    if sorted(order) != ["x", "y", "z"]:
        raise DatasetError(f"{place}: the order of its axes is '{order}'; expected x, y and z once each, like XYZ")
    odd = next((channel for channel in channels if channel not in known or channels.count(channel) > 1), None)
    if odd is not None:
        raise DatasetError(f"{place}: channel {odd} is not known or stands twice; known: {' '.join(known)}")
    return Bone(name, parent, offset, Rotation.from_euler(order, angles, degrees=degrees), order, channels)


def _numbers(
    place: str, fields: dict[str, list[str]], key: str, n: int, default: float | None = None
) -> NDArray[np.float64]:
    """Read the first numbers of a field."""
    if key not in fields and default is not None:
        return np.full(n, default)
    words = fields.get(key, [])[:n]
    try:
        numbers = np.asarray([float(word) for word in words])
    except ValueError:
        numbers = np.zeros(0)
    if len(numbers) != n or not np.isfinite(numbers).all():
        raise DatasetError(f"{place}: {key} is '{' '.join(words)}', expected {n} numbers; correct the file")
    return numbers


def _read_channels(path: Path, skeleton: Skeleton) -> tuple[dict[str, NDArray[np.float64]], bool]:
    """Read the channels [n_frames, n_channels] by bone, and whether angles are in degrees."""
    bones = {bone.name: bone for bone in skeleton.bones}
    degrees = skeleton.degrees
    frames: list[dict[str, NDArray[np.float64]]] = []
    for words in _read_lines(path):
        name = words[0]
        if name.startswith(":"):
            degrees = {":degrees": True, ":radians": False}.get(name.lower(), degrees)
        elif len(words) == 1 and name.isdigit():
            frames.append({})
        elif name not in bones or not frames:
            why = "stands before the first frame" if name in bones else f"is no bone of {skeleton.path}"
            raise DatasetError(f"{path}, frame {len(frames)}: {name} {why}; correct the file, or take its own skeleton")
        else:
            n = len(bones[name].channels)
            if len(words) != n + 1:
                raise DatasetError(
                    f"{path}, frame {len(frames)}, bone {name}: {len(words) - 1} numbers, and the skeleton has {n} channels "
                    f"({' '.join(bones[name].channels)}); take the skeleton of this motion"
                )
            frames[-1][name] = _numbers(f"{path}, frame {len(frames)}", {name: words[1:]}, name, n)
    if not frames:
        raise DatasetError(f"{path} has no frames; is it a complete .amc file?")
    moving = [bone.name for bone in skeleton.bones if bone.channels or bone.parent < 0]
    for number, frame in enumerate(frames, start=1):
        lacking = [name for name in moving if name not in frame]
        if lacking:
            raise DatasetError(f"{path}, frame {number} lacks {', '.join(lacking[:5])}; is the file complete?")
    return {name: np.stack([frame[name] for frame in frames]) for name in moving}, degrees
