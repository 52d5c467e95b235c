"""Reading frames by ASE. Only the requested frames are parsed, so that a bad frame elsewhere does no harm.

Extended xyz files are read line by line, and each requested frame is given to ASE separately. Frames of a trajectory
are read by number. Other formats are read in order as far as the index requires; an index that counts from the end
reads them whole.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict, read_xyz
from ase.io.formats import filetype, open_with_compression, string2index
from ase.io.trajectory import Trajectory

from mlff_calc.errors import DatasetError

Frame = tuple[int, Atoms]
_PIECE = 65536  # largest number of lines read at once; a larger value takes more memory
_TENSORS = ("stress", "virial", "dipole")
_NAMED = re.compile(rf"""(?<![\w-])(["']?)({'|'.join(_TENSORS)})\1(?=\s*=)""")
_HIDDEN = "mlff_hidden_"
"""Prefix that hides names from ASE: its own parsing of a `stress` that is not nine plain numbers would fail the frame."""


class _TextFrame:
    """Text of one frame of an extended xyz file, or the fault that makes it unreadable."""

    def __init__(self, lines: list[str], fault: str = "") -> None:
        self.lines, self.fault = lines, fault


def read_frames_with_ase(path: Path, index: str | int | slice, format: str | None) -> list[Frame]:
    """Read the frames of a file that an index selects.

    Args:
        path: File, which may be compressed.
        index: Index of frames, as in ASE.
        format: One of ASE's format names; None to decide by the file's name.

    Returns:
        Number of each frame in the file (from 0) and its structure, in the order of the index.

    Raises:
        DatasetError: the index selects no frame, or a requested frame cannot be read; the message names its number.
    """
    frames = list(iterate_frames(path, index, format))
    if not frames:
        raise DatasetError(f"{path}: index {index!r} selects none of its frames")
    return frames


def iterate_frames(path: Path, index: str | int | slice, format: str | None) -> Iterator[Frame]:
    """Iterate over the frames that an index selects; extended xyz and trajectories keep only one in memory.

    Other formats, and an index that counts from the end of an extended xyz file, are read whole. Arguments and errors
    are those of `read_frames_with_ase`.
    """
    chosen = _parsed(index, path)
    try:
        kind = format or filetype(str(path))
        if kind == "extxyz":
            yield from _extxyz(path, chosen)
        elif kind == "traj":
            with Trajectory(str(path)) as stored:
                yield from ((number, stored[number]) for number in _numbers(chosen, len(stored), path))
        else:
            yield from _in_order(path, chosen, format)
    except DatasetError:
        raise
    except Exception as error:  # ASE's readers may raise any error on a broken file
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise DatasetError(
            f"{path} cannot be read by ASE ({reason}); is it complete, and is its format "
            f"{'known from its name' if format is None else repr(format)}?"
        ) from error


def read_frame(path: Path, number: int = -1) -> Atoms:
    """Read one frame of a file with ASE.

    Args:
        path: File, which may be compressed.
        number: Number of the frame, from 0; negative numbers count from the end.

    Raises:
        DatasetError: a frame of an extended xyz file cannot be read or does not exist.
        Exception: ASE's readers of other formats may raise any error.
    """
    if filetype(str(path)) == "extxyz":  # ASE takes a blank line as the end of the file
        return next(_extxyz(path, number))[1]
    found = ase.io.read(path, number)
    if isinstance(found, list):
        raise DatasetError(f"{path} holds no atoms")
    return found


def as_written(text: str) -> str:
    """Return what to write with ASE to `info` of an extended xyz file so that ASE reads a text, which is not empty.

    Otherwise ASE drops backslashes, and reads `F` as False and `1 2` as an array.
    """
    plain = _escaped(text)
    found = key_val_str_to_dict(key_val_dict_to_str({"text": plain}))
    same = list(found) == ["text"] and isinstance(found["text"], str) and found["text"] == text
    return plain if same else _escaped("_JSON " + json.dumps(text))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\")


def _parsed(index: str | int | slice, path: Path) -> int | slice:
    """Parse an index to an int or a slice."""
    try:
        chosen = string2index(index) if isinstance(index, str) else index
    except ValueError:
        chosen = None
    if isinstance(chosen, bool) or not isinstance(chosen, int | slice) or chosen == slice(None, None, 0):
        raise DatasetError(f"{path}: index {index!r} is not valid; write one as in ASE, '10:20' or '-1'")
    if isinstance(chosen, slice) and chosen.step == 0:
        raise DatasetError(f"{path}: index {index!r} has a step of 0; write one as in ASE, '::10'")
    return chosen


def _numbers(index: int | slice, n: int, path: Path) -> list[int]:
    """Return the numbers that an index selects among `n` frames."""
    if n == 0:
        raise DatasetError(f"{path} holds no structures; name another file")
    if isinstance(index, slice):
        numbers = list(range(n))[index]
        if not numbers:
            raise DatasetError(f"{path}: index {_written(index)!r} selects none of the {n} frames")
        return numbers
    if not -n <= index < n:
        raise DatasetError(f"{path}: index {index!r} does not fit {n} frames; write one as in ASE, '10:20'")
    return [index % n]


def _written(index: slice) -> str:
    start, stop, step = ("" if part is None else str(part) for part in (index.start, index.stop, index.step))
    return f"{start}:{stop}" + (f":{step}" if step else "")


def _forward(index: int | slice) -> slice | None:
    """Return an index as a slice that needs no later frame; None if it counts from the end or backwards."""
    if isinstance(index, int):
        return slice(index, index + 1) if index >= 0 else None
    if (index.start or 0) < 0 or (index.stop or 0) < 0 or (index.step or 1) < 0:
        return None
    return index


def _in_order(path: Path, index: int | slice, format: str | None) -> list[Frame]:
    """Read frames of a format that must be read from the beginning."""
    forward = _forward(index)
    everything: Iterator[Any] = ase.io.iread(
        str(path), index=":" if forward is None else slice(0, forward.stop), format=format, do_not_split_by_at_sign=True
    )
    frames = list(enumerate(everything))
    picked = _numbers(index, len(frames), path)
    return [frames[number] for number in picked]


def _extxyz(path: Path, index: int | slice) -> Iterator[Frame]:
    """Iterate over frames of an extended xyz file."""
    forward = _forward(index)
    with open_with_compression(str(path), "r") as stream:
        if forward is not None:
            seen = 0
            for number, frame in enumerate(_text_frames(stream, _Every(forward), forward.stop)):
                seen = number + 1
                if frame is not None:
                    yield number, _atoms(frame, number, path)
            _numbers(index, seen, path)  # raises an error if the index selects no frame
            return
        n = sum(1 for _ in _text_frames(stream, range(0), None))
        wanted = _numbers(index, n, path)
        stream.seek(0)
        frames = enumerate(_text_frames(stream, set(wanted), max(wanted) + 1))
        found = {number: _atoms(frame, number, path) for number, frame in frames if frame is not None}
    yield from ((number, found[number]) for number in wanted)


class _Every:
    """Set of the numbers in a slice without an end, for `in`."""

    def __init__(self, index: slice) -> None:
        self.start, self.step, self.stop = index.start or 0, index.step or 1, index.stop

    def __contains__(self, number: object) -> bool:
        inside = isinstance(number, int) and number >= self.start and (self.stop is None or number < self.stop)
        return inside and (number - self.start) % self.step == 0  # type: ignore[operator]


def _text_frames(stream: IO[str], keep: Any, stop: int | None) -> Iterator[_TextFrame | None]:  # noqa: ANN401
    """Iterate over the frames: those in `keep` with their text, the others as None. Nothing beyond the last one is read.

    Blank lines between and after frames are skipped.
    """
    number, line, place = 0, stream.readline(), 1
    while line and (stop is None or number < stop):
        if not line.strip():
            line, place = stream.readline(), place + 1
            continue
        try:
            size = int(line)
        except ValueError:
            fault = f"its first line is {line.strip()[:60]!r} (line {place}), but the number of atoms was expected"
            yield _TextFrame([], fault) if number in keep else None
            return  # the beginning of the next frame is unknown
        lines, complete = [line], True
        if size < 0:
            yield _TextFrame([], f"it claims {size} atoms") if number in keep else None
            return
        left = size + 1
        while left:
            piece = list(islice(stream, min(left, _PIECE)))
            left -= len(piece)
            place += len(piece)
            if number in keep:
                lines += piece
            if not piece:
                complete = False
                break
        line, place = stream.readline(), place + 1
        while line.lstrip().startswith("VEC"):
            lines.append(line)
            line, place = stream.readline(), place + 1
        fault = "" if complete else f"it claims {size} atoms, but the file ends after {max(size - left, 0)} of them"
        yield _TextFrame(lines, fault) if number in keep else None
        number += 1


def _atoms(frame: _TextFrame, number: int, path: Path) -> Atoms:
    """Parse a structure from its text."""
    fault = frame.fault
    if not fault:
        try:
            found: Atoms = next(read_xyz(io.StringIO("".join(frame.lines)), 0, _comment))
            return _show_hidden(found)
        except Exception as error:  # as above
            fault = f"{type(error).__name__}: {error}".rstrip(": ")
    raise DatasetError(
        f"{path} cannot be read by ASE: frame {number}: {fault}; correct the frame, or leave it out with an index such as "
        f"':{number}'"
    )


def _comment(line: str) -> dict[str, Any]:
    """Parse the second line of a frame; names that ASE would treat specially are hidden from it."""
    return dict(key_val_str_to_dict(_NAMED.sub(rf"{_HIDDEN}\2", line)))


def _show_hidden(atoms: Atoms) -> Atoms:
    """Restore hidden names: stress and dipole to the results, as ASE does, and a virial to `info`."""
    for name in list(atoms.info):
        value = atoms.info.pop(name)
        shown = name.removeprefix(_HIDDEN)
        if isinstance(value, str):
            value = value.replace(_HIDDEN, "")
            value = _numbers_of(value) if shown != name else value
        if shown == name or shown == "virial":
            atoms.info[shown] = value
            continue
        if atoms.calc is None:
            atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results[shown] = value
    return atoms


def _numbers_of(text: str) -> Any:  # noqa: ANN401
    """Parse a tensor in brackets, ``[[1, 6, 5], [6, 2, 4], [5, 4, 3]]``, to flat numbers; return other text unchanged."""
    try:
        return np.array([float(word) for word in re.sub(r"[][(){},;]", " ", text).split()])
    except ValueError:
        return text
