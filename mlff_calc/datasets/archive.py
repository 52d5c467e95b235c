"""Archives of numpy arrays, read with errors that name the file, the array, its content and the cure."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlff_calc.bounded import MEBI, require_regular, shorten
from mlff_calc.errors import DatasetError

CURE = "write the file again"
MOST_UNPACKED, MOST_TIMES = 256 * MEBI, 50
"""Largest unpacked size of compressed arrays: a number of bytes, or a multiple of the file's size where that is more."""
# Errors of numpy and zipfile on damaged files; BadZipFile and zlib's error have no useful base class.
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,
    IndexError,
    MemoryError,
    SyntaxError,  # from headers, which numpy reads as Python literals
    struct.error,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
)


def archive_keys(path: Path) -> set[str]:
    """Return the names of the arrays in an archive, without reading any array.

    Args:
        path: Archive.

    Returns:
            Names of the arrays.

    Raises:
        DatasetError: the file is not an npz archive, or is incomplete.
    """
    with _opened(path) as archive:
        return set(archive.files)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray]:
    """Read some arrays of an archive, of any shape and dtype except Python objects.

    Args:
        path: Archive.
        names: Names of the arrays.

    Returns:
        The arrays by name.

    Raises:
        DatasetError: the file is unreadable, or an array is missing or holds Python objects.
    """
    with _opened(path) as archive:
        missing = sorted(set(names) - set(archive.files))
        if missing:
            raise DatasetError(f"{path} lacks the arrays {missing}; {CURE}")
        return {name: _read(path, archive, name) for name in names}


def numbers_of(
    path: Path,
    name: str,
    values: NDArray,
    shape: Sequence[int | str],
    *,
    whole: bool = False,
    finite: bool = False,
    empty: bool = False,
) -> NDArray:
    """Check that an array holds real numbers of the expected shape.

    Args:
        path: File, for messages.
        name: Name of the array.
        values: Content of the array.
        shape: Length of each axis, or its name where any length is allowed.
        whole: Whether to require whole numbers; floats like 6.0 are accepted.
        finite: Whether to refuse NaN and infinity.
        empty: Whether to allow axes of length 0.

    Returns:
        The same array, or int64 where `whole`.

    Raises:
        DatasetError: the shape differs, or the content is not numbers, not whole or not finite.
    """
    wanted = f"[{', '.join(map(str, shape))}]"
    kind = "whole numbers" if whole else "numbers"
    fits = len(shape) == values.ndim and all(
        isinstance(length, str) or length == found for length, found in zip(shape, values.shape, strict=True)
    )
    if not fits or (values.size == 0 and not empty):
        raise DatasetError(
            f"{path}: '{name}' has shape {list(values.shape)}, expected {wanted} of {kind}"
            f"{' and at least one of them' if fits else ''} (its dtype is {values.dtype}); {CURE}"
        )
    if values.dtype.kind not in "iuf":
        raise DatasetError(
            f"{path}: '{name}' has dtype {values.dtype}, expected {kind} (its shape is {list(values.shape)}); {CURE}"
        )
    if whole:
        return _whole(path, name, values)
    if finite:
        _refuse(path, name, values, ~np.isfinite(values), "finite numbers")
    return values


def one_number(path: Path, name: str, values: NDArray) -> float:
    """Read an array that holds a single finite number.

    Args:
        path: File, for messages.
        name: Name of the array.
        values: Content of the array.

    Returns:
        The number.

    Raises:
        DatasetError: the array does not hold exactly one finite number.
    """
    flat = values.reshape(-1) if values.size == 1 else values
    return float(numbers_of(path, name, flat, [1], finite=True)[0])


def one_text(path: Path, name: str, values: NDArray) -> str:
    """Read an array that holds a single word.

    Args:
        path: File, for messages.
        name: Name of the array.
        values: Content of the array.

    Returns:
        The word.

    Raises:
        DatasetError: the array does not hold exactly one word.
    """
    if values.size != 1 or values.dtype.kind not in "US":
        raise DatasetError(
            f"{path}: '{name}' has shape {list(values.shape)} and dtype {values.dtype}, expected one word; {CURE}"
        )
    word = values.reshape(-1)[0]
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)


def _whole(path: Path, name: str, values: NDArray) -> NDArray[np.int64]:
    """Convert values to int64; raises an error where that would change any."""
    with np.errstate(invalid="ignore"):
        found = values.astype(np.int64)
    _refuse(path, name, values, (found != values) | ((found < 0) != (values < 0)), "whole numbers")
    return found


def _refuse(path: Path, name: str, values: NDArray, wrong: NDArray[np.bool_], expected: str) -> None:
    """Raise an error that names the first wrong number, if there is one."""
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise DatasetError(
            f"{path}: '{name}' of shape {list(values.shape)} and dtype {values.dtype} holds {values[place]} at "
            f"{list(place)}, expected {expected}; correct it there, or {CURE}"
        )


@contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """Open an archive; errors of numpy on a damaged one become DatasetErrors."""
    _refuse_other_files(path)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            _check_table(path, archive.zip)
            yield archive
    except DatasetError:
        raise
    except _DAMAGED as error:
        raise DatasetError(f"{path} cannot be read as an npz archive ({_line(error)}); is it complete?") from error


def _check_table(path: Path, archive: zipfile.ZipFile | None) -> None:
    """Refuse an archive that unpacks to far more than its size, before anything is unpacked."""
    members = [] if archive is None else archive.infolist()
    size = path.stat().st_size
    for one in members:
        if one.compress_type == zipfile.ZIP_STORED and one.file_size != one.compress_size:
            raise DatasetError(f"{path}: '{one.filename}' has two sizes; {CURE}")
    unpacked, most = sum(one.file_size for one in members), max(MOST_UNPACKED, MOST_TIMES * size)
    if unpacked > most:
        raise DatasetError(
            f"{path} has {size} bytes and claims to unpack to {unpacked}, more than the {most} that are allowed; {CURE} "
            "with numpy.savez, which does not compress"
        )


def _check_declared(path: Path, archive: zipfile.ZipFile, name: str) -> None:
    """Compare the shape and dtype in the header of an array with the number of bytes in the file.

    Raises:
        DatasetError: they do not agree. Nothing of the claimed size was allocated.
    """
    member = name if name in archive.namelist() else f"{name}.npy"
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
        shape, _, dtype = read(stream)
        there = archive.getinfo(member).file_size - stream.tell()
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or (declared != there and not dtype.hasobject):
        raise DatasetError(
            f"{path}: '{name}' claims shape {shorten(list(shape))} and dtype {shorten(dtype.name)}, {declared} bytes, but "
            f"the file holds {there} bytes, which cannot be read as that; is the file complete?"
        )


def _refuse_other_files(path: Path) -> None:
    """Refuse files that do not begin like an npz archive, since numpy's own message is about pickles."""
    require_regular(path, DatasetError)
    try:
        with path.open("rb") as stream:
            begin = stream.read(6)
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read as an npz archive ({error.strerror or error}); check the path and its permissions"
        ) from error
    if begin == b"\x93NUMPY":
        raise DatasetError(
            f"{path} is a single array (.npy), but an npz archive of several named arrays is needed; write one with "
            "numpy.savez, or take another file"
        )
    if not begin.startswith(b"PK"):
        what = f"begins with {begin!r}" if begin else "is empty"
        raise DatasetError(
            f"{path} cannot be read as an npz archive: it {what}, but archives written by numpy.savez begin with 'PK'; "
            "is it complete, and the right file?"
        )


def _read(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> NDArray:
    """Read one array of an open archive."""
    try:
        if archive.zip is not None:
            _check_declared(path, archive.zip, name)
        found = archive[name]
    except DatasetError:
        raise
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DatasetError(
            f"{path}: '{name}' has dtype object: it holds Python objects, which are not read, since reading them can run "
            f"any program; {CURE} with an array of numbers or text"
        ) from error
    except _DAMAGED as error:
        raise DatasetError(f"{path}: '{name}' cannot be read ({_line(error)}); is the file complete?") from error
    if not isinstance(found, np.ndarray):
        raise DatasetError(f"{path}: '{name}' is not an array of numpy; {CURE} with numpy.savez")
    return found


def _line(error: BaseException) -> str:
    """Format the message of an exception on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
