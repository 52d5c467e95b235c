"""HDF5 files of matrices, one for each data set, which are read frame by frame.

====================================  ==========================================================
attributes ``format``, ``version``    name and version of this layout
attribute ``settings``                level of the matrices, JSON
attribute ``basis``                   shells of each element, JSON as `OrbitalBasis.to_dict` gives it
``atomic_numbers``                    [n_atoms of all frames]
``positions``, ``forces``             [n_atoms of all frames, 3], Angstrom and Ha/Bohr
``first_atom``, ``first_entry``       [n_frames + 1], first atom and first entry of each frame
``fock``, ``overlap``, ``initial``    [entries of all frames], upper triangles, row by row, Ha
``energy``, ``charge``, ``cycles``    [n_frames], Ha, e; cycles are -1 where unknown
``source``                            [n_frames], number of the structure that was labelled
``failed_source``, ``failed_reason``  [n_failed], numbers of structures without a label, and why
====================================  ==========================================================

Orbitals are in our order (p as y, z, x). What a frame lacks is NaN. Files appear when they are complete.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mlff_calc.bounded import MEBI, parse_json, require_regular
from mlff_calc.datasets.matrix_frames import (
    FloatArray,
    MatrixFrame,
    check_frame,
    count_orbitals,
    frame_number,
    orbital_counts,
)
from mlff_calc.datasets.rows import mark_of, opened, rows_of
from mlff_calc.errors import DatasetError
from mlff_calc.whole_files import replacing

FORMAT = "mlff_calc matrices"
VERSION = 1
MATRICES = ("fock", "overlap", "initial")
_ROWS: dict[str, tuple[tuple[int, ...], type]] = {
    "atomic_numbers": ((), np.int64), "positions": ((3,), np.float64), "forces": ((3,), np.float64),
    "first_atom": ((), np.int64), "first_entry": ((), np.int64),
    **{name: ((), np.float64) for name in (*MATRICES, "energy")},
    **{name: ((), np.int64) for name in ("charge", "cycles", "source", "failed_source")},
}  # fmt: skip
"""Shape of a row and dtype of each data set."""
_OF_ATOMS, _OF_FRAMES = ("atomic_numbers", "positions", "forces"), ("energy", "charge", "cycles", "source")
_UNITS = {"positions": "Angstrom", "forces": "Ha/Bohr", "fock": "Ha", "initial": "Ha", "energy": "Ha", "charge": "e"}
_LONGEST = MEBI  # largest size of a JSON attribute, bytes


class MatrixFile:
    """A file of matrices; frames are read when they are asked for.

    Args:
        path: HDF5 file, as `mlff data hamiltonian` writes it.

    Attributes:
        path: The file.
        settings: Level of the matrices, see `SCFSettings.from_dict`.
        basis: Shells of each element, see `OrbitalBasis.from_dict`.
        failures: Number and reason of each structure without a label.

    Raises:
        DatasetError: The file is missing, truncated, does not hold matrices, or is of a later version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        require_regular(self.path, DatasetError)
        try:
            self._mark = mark_of(self.path.stat())
            with h5py.File(self.path, "r") as file:
                held, version = file.attrs.get("format"), int(file.attrs.get("version", 0))
                if held == FORMAT and version <= VERSION:
                    self.settings: dict[str, Any] = _json(file, "settings")
                    self.basis: dict[str, Any] = _json(file, "basis")
                    self._orbitals = orbital_counts(self.basis)
                    self._rows = {name: rows_of(file[name], *of) for name, of in _ROWS.items()}
                    reasons = [str(text) for text in file["failed_reason"].asstr()[:]]
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{self.path} cannot be read as HDF5 ({error}); is it complete?") from error
        if held != FORMAT or version > VERSION:
            found = f"version {version} of the format" if held == FORMAT else "not a file of matrices"
            raise DatasetError(f"{self.path} is {found}; make it with `mlff data hamiltonian` of this version of mlff_calc")
        try:
            self._first_atom, self._first_entry = self._whole("first_atom"), self._whole("first_entry")
            self._check_counts()
            self.failures = list(zip(self._whole("failed_source").tolist(), reasons, strict=True))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.path} is damaged ({error}); is it complete?") from error

    def _whole(self, name: str) -> NDArray[Any]:
        held = opened(self.path, self._mark)  # stays open while it is read
        return self._rows[name].read(held.number, 0, self._rows[name].count)

    def _check_counts(self) -> None:
        """Check that the numbers of rows fit together; raises a ValueError where they do not."""
        for first, names in ((self._first_atom, _OF_ATOMS), (self._first_entry, MATRICES)):
            if not len(first) or first[0] or (np.diff(first) < 1).any():
                raise ValueError("the first rows of its frames do not rise from 0")
            wrong = [name for name in names if self._rows[name].count != first[-1]]
            if wrong:
                raise ValueError(f"'{wrong[0]}' has {self._rows[wrong[0]].count} rows, expected {first[-1]}")
        if len({len(self._first_atom), len(self._first_entry), *(self._rows[name].count + 1 for name in _OF_FRAMES)}) > 1:
            raise ValueError("its data sets are of different numbers of frames")

    def __len__(self) -> int:
        return len(self._first_atom) - 1

    def __getitem__(self, number: int) -> MatrixFrame:
        """Read a frame; negative numbers count from the end.

        Raises:
            IndexError: There is no such frame.
            DatasetError: The frame is damaged, or the file was replaced meanwhile.
        """
        number = frame_number(number, len(self), self.path)
        place = f"{self.path}, frame {number}"
        try:
            return self._frame(number, place)
        except (OSError, ValueError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{place} cannot be read ({error}); make the file again") from error

    def __iter__(self) -> Iterator[MatrixFrame]:
        return (self[number] for number in range(len(self)))

    def column(self, name: str) -> NDArray[Any]:
        """Read what all frames have one of [n_frames]: `energy`, `charge`, `cycles` (-1 where unknown) or `source`."""
        return self._whole(name)

    def numbers(self, number: int) -> NDArray[np.int64]:
        """Read the atomic numbers of a frame [n_atoms] alone."""
        held = opened(self.path, self._mark)
        first, last = (int(self._first_atom[each]) for each in (number, number + 1))
        return self._rows["atomic_numbers"].read(held.number, first, last).astype(np.int64)

    def _frame(self, number: int, place: str) -> MatrixFrame:
        held = opened(self.path, self._mark)
        atoms, entries = (
            (held.number, int(first[number]), int(first[number + 1])) for first in (self._first_atom, self._first_entry)
        )
        numbers = self._rows["atomic_numbers"].read(*atoms)
        n = count_orbitals(numbers, self._orbitals, place)
        if n * (n + 1) // 2 != entries[2] - entries[1]:
            raise DatasetError(f"{place} has {entries[2] - entries[1]} entries of a matrix, but {n} orbitals")
        fock, overlap, first = (_square(self._rows[name].read(*entries), n) for name in MATRICES)
        initial = None if np.isnan(first).all() else first
        one = {name: self._rows[name].read(held.number, number, number + 1)[0] for name in _OF_FRAMES}
        forces, energy, cycles = self._rows["forces"].read(*atoms), float(one["energy"]), int(one["cycles"])
        frame = MatrixFrame(
            numbers, self._rows["positions"].read(*atoms), fock, overlap, initial,
            energy=None if np.isnan(energy) else energy,
            forces=None if np.isnan(forces).all() else forces, charge=int(one["charge"]),
            cycles=None if cycles < 0 else cycles, source=int(one["source"]),
        )  # fmt: skip
        return check_frame(frame, place, n)


def write_matrices(
    path: Path,
    frames: Sequence[MatrixFrame],
    settings: Mapping[str, Any],
    basis: Mapping[str, Any],
    failures: Iterable[tuple[int, str]] = (),
) -> None:
    """Write a file of matrices, which appears when it is complete. One frame at a time is in memory.

    Args:
        path: File; an existing one is replaced.
        frames: Frames in our order with a Fock matrix; a sequence that reads them when asked may be larger than memory.
        settings: Level of the matrices, plain values.
        basis: Shells of each element, as `OrbitalBasis.to_dict` gives them.
        failures: Number and reason of each structure without a label.

    Raises:
        DatasetError: A frame has arrays of wrong shapes, values that are not finite, another order, or no overlap or
            initial matrix.
        OSError: The file cannot be written.
    """
    orbitals, numbers = orbital_counts(basis), []
    for number, frame in enumerate(frames):
        place = f"{path}, frame {number}"
        check_frame(frame, place, count_orbitals(frame.numbers, orbitals, place))
        if frame.order != "ours" or frame.overlap is None or frame.initial is None:
            raise DatasetError(f"{place}: such a file needs overlap and initial matrix in our order, not {frame.order!r}")
        numbers.append(frame.numbers)
    with writing_matrices(path, numbers, settings, basis, failures) as add:
        for frame in frames:
            add(frame)


@contextmanager
def writing_matrices(
    path: Path,
    numbers: Sequence[NDArray[np.int64]],
    settings: Mapping[str, Any],
    basis: Mapping[str, Any],
    failures: Iterable[tuple[int, str]] = (),
    **marks: str,
) -> Iterator[Callable[[MatrixFrame], None]]:
    """Give a function that writes the next frame, in our order, to a file that appears when the block ends without an error.

    Args:
        path: File; an existing one is replaced.
        numbers: Atomic numbers [n_atoms] of each frame that will come.
        settings: Level of the matrices, plain values.
        basis: Shells of each element, as `OrbitalBasis.to_dict` gives them.
        failures: Number and reason of each structure without a label.
        **marks: Further attributes of the file.

    Raises:
        DatasetError: An element has no orbitals.
        OSError: The file cannot be written.
    """
    orbitals = orbital_counts(basis)
    sizes = np.zeros((len(numbers), 2), dtype=np.int64)
    for k, mine in enumerate(numbers):
        n = count_orbitals(np.asarray(mine), orbitals, f"{path}, frame {k}")
        sizes[k] = len(mine), n * (n + 1) // 2
    failed, places = list(failures), itertools.count()
    with replacing(path) as temporary, h5py.File(temporary, "w", libver=("earliest", "v110")) as file:
        words = {"settings": json.dumps(dict(settings)), "basis": json.dumps(dict(basis))}
        file.attrs.update({"format": FORMAT, "version": VERSION} | words | marks)
        firsts = np.concatenate([np.zeros((1, 2), dtype=np.int64), np.cumsum(sizes, axis=0)])
        counts = {name: int(firsts[-1, 0]) for name in _OF_ATOMS} | {name: int(firsts[-1, 1]) for name in MATRICES}
        counts |= {"first_atom": len(firsts), "first_entry": len(firsts), "failed_source": len(failed)}
        for name, (shape, dtype) in _ROWS.items():
            held = file.create_dataset(name, shape=(counts.get(name, len(sizes)), *shape), dtype=dtype)
            held.attrs.update({"unit": _UNITS[name]} if name in _UNITS else {})
        file["first_atom"][:], file["first_entry"][:] = firsts.T
        file["failed_source"][:] = [source for source, _ in failed]
        file.create_dataset("failed_reason", data=[reason for _, reason in failed], dtype=h5py.string_dtype())

        def add(frame: MatrixFrame) -> None:
            number = next(places)
            _write(file, frame, number, firsts[number : number + 2])

        yield add


def _write(file: h5py.File, frame: MatrixFrame, number: int, firsts: NDArray[np.int64]) -> None:
    atoms, entries = (slice(*bounds) for bounds in firsts.T.tolist())
    file["atomic_numbers"][atoms], file["positions"][atoms] = frame.numbers, frame.positions
    file["forces"][atoms] = np.nan if frame.forces is None else frame.forces
    upper = np.triu_indices(len(frame.fock))
    for name in MATRICES:
        matrix = getattr(frame, name)
        file[name][entries] = np.nan if matrix is None else matrix[upper]
    values = {"energy": frame.energy, "charge": frame.charge, "cycles": frame.cycles, "source": frame.source}
    absent = {"energy": np.nan, "cycles": -1}
    for name, value in values.items():
        file[name][number] = absent[name] if value is None else value


def _square(triangle: FloatArray, n: int) -> FloatArray:
    """Fill a symmetric matrix [n, n] from its upper triangle."""
    matrix = np.empty((n, n))
    rows, columns = np.triu_indices(n)
    matrix[rows, columns] = triangle
    matrix[columns, rows] = triangle
    return matrix


def _json(file: h5py.File, name: str) -> dict[str, Any]:
    """Read a JSON attribute that is a mapping."""
    text = file.attrs[name]
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ValueError(f"its attribute '{name}' is no short text")
    found = parse_json(text)
    if not isinstance(found, dict):
        raise ValueError(f"its attribute '{name}' is no mapping")
    return found
