"""Frames in HDF5, concatenated, with random access to a file larger than memory.

Every label is a data set named by its registered key (graph/keys.py), with level and unit as attributes:

=====================================  ==================================================
data set                               content
=====================================  ==================================================
``atomic_numbers``                     [n_atoms of all frames]
``positions``                          [n_atoms of all frames, 3], Angstrom
``first_atom``                         [n_frames + 1], first atom of each frame
``cell``, ``pbc``                      [n_frames, 3, 3] Angstrom, [n_frames, 3]
``config_type``, ``config_types``      [n_frames], index into the list of names; the names
``stated``, ``stated_texts``           [n_frames], index into the list of texts; JSON of charge, spin and level of labels
``labels/energy``, ``labels/stress``   [n_frames], [n_frames, 3, 3]; NaN where there is none
``labels/forces``                      [n_atoms of all frames, 3]; NaN where there are none
``weights/config_weight``, ...         [n_frames], weights in the frames; NaN where there are none
=====================================  ==================================================

Data sets are contiguous, so that rows are read directly by their place in the file, faster than through HDF5.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.bounded import parse_json
from mlff_calc.datasets.keys import ENERGY, FORCES, STRESS
from mlff_calc.datasets.rows import mark_of, opened, rows_of
from mlff_calc.datasets.sample import KINDS, Kind, Sample, number_array, statements
from mlff_calc.datasets.weights import NAMES, stated_weight
from mlff_calc.errors import DatasetError
from mlff_calc.graph.keys import get_key

FORMAT = "mlff_calc frames"
VERSION = 2
_LABELS: dict[Kind, tuple[int, ...]] = {ENERGY: (), FORCES: (3,), STRESS: (3, 3)}
_ROWS = 65536
"""Number of rows copied at once when a file is closed. Raising it takes more memory and makes fewer calls."""

_ARRAYS: dict[str, tuple[tuple[int, ...], type]] = {
    "atomic_numbers": ((), np.int64), "positions": ((3,), np.float64), "first_atom": ((), np.int64),
    "cell": ((3, 3), np.float64), "pbc": ((3,), np.bool_), "config_type": ((), np.int64), "stated": ((), np.int64),
    **{f"labels/{kind}": (shape, np.float64) for kind, shape in _LABELS.items()},
    **{f"weights/{name}": ((), np.float64) for name in NAMES},
}  # fmt: skip
"""Shape of a row and dtype of each data set."""
_SINCE = {"stated": 2}
"""Version of the format in which a data set came; frames of earlier files state nothing."""


class HDF5Frames:
    """A file of frames; of all such files those that were read last stay open.

    Args:
        path: HDF5 file.

    Raises:
        DatasetError: The file does not hold frames, is of a later version, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._mark = mark_of(path.stat())
            with h5py.File(path, "r") as file:
                held, version = file.attrs.get("format"), int(file.attrs.get("version", 0))
                if held == FORMAT and version <= VERSION:
                    self._first: NDArray[np.int64] = np.asarray(file["first_atom"][:], dtype=np.int64)
                    self._types = [str(name) for name in file["config_types"].asstr()[:]]
                    held_sets = {name: of for name, of in _ARRAYS.items() if _SINCE.get(name, 1) <= version}
                    self._rows = {name: rows_of(file[name], *of) for name, of in held_sets.items() if name != "first_atom"}
                    texts = file["stated_texts"].asstr()[:] if version > 1 else []
                    self._stated: list[dict[str, Any]] = [dict(parse_json(text)) for text in texts]
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise DatasetError(f"{path} cannot be read as HDF5 ({error}); is it complete?") from error
        if held != FORMAT or version > VERSION:
            found = f"version {version} of the format" if held == FORMAT else "not a file of frames"
            raise DatasetError(f"{path} is {found}; make it with `mlff data convert` of this version of mlff_calc")

    def __len__(self) -> int:
        return len(self._first) - 1

    def __getitem__(self, number: int) -> Sample:
        """Read the frame of this number; raises a DatasetError where it is damaged."""
        place = f"{self.path}, frame {number}"
        try:
            return self._sample(number, place)
        except (OSError, ValueError, IndexError) as error:
            raise DatasetError(f"{place} cannot be read ({error}); make the file again with `mlff data convert`") from error

    def _sample(self, number: int, place: str) -> Sample:
        held = opened(self.path, self._mark)
        descriptor = held.number
        first, last = (int(self._first[each]) for each in (number, number + 1))

        def row(name: str) -> NDArray[Any]:
            return self._rows[name].read(descriptor, number, number + 1)[0]

        def atoms(name: str) -> NDArray[Any]:
            return self._rows[name].read(descriptor, first, last)

        positions = number_array(atoms("positions"), ((last - first, 3),), place, "positions")
        info = dict(self._stated[int(row("stated"))]) if self._stated else None
        structure = Atoms(atoms("atomic_numbers"), positions, cell=row("cell"), pbc=row("pbc"), info=info)
        labels: dict[str, Any] = {}
        for kind, shape in _LABELS.items():
            value = (atoms if kind == FORCES else row)(f"labels/{kind}")
            if not np.isnan(value).all():
                labels[kind] = number_array(value, ((len(structure), 3) if kind == FORCES else shape,), place, kind)
        if "energy" in labels:
            labels["energy"] = float(labels["energy"])
        weights = {name: float(row(f"weights/{name}")) for name in NAMES}
        return Sample(
            structure, **labels, config_type=self._types[int(row("config_type"))], path=self.path, frame=number,
            stated_weights={name: weight for name, weight in weights.items() if not np.isnan(weight)},
        )  # fmt: skip


class HDF5Writer:
    """Writes frames to a new file. Rows are collected in temporary files beside it until it is closed.

    Args:
        path: File to write; an existing one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: Mapping[str, IO[bytes]] = {
            name: tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - `close` closes them
            for name in _ARRAYS
        }
        self._types: dict[str, int] = {}
        self._stated: dict[str, int] = {}
        self._n_atoms = 0
        self._append("first_atom", np.zeros(1, dtype=np.int64))

    def write(self, samples: Sequence[Sample]) -> None:
        """Append frames, at least one.

        Raises:
            DatasetError: A weight in a frame is not valid.
        """
        sizes = [len(sample.atoms) for sample in samples]
        ends = self._n_atoms + np.cumsum(sizes)
        self._n_atoms = int(ends[-1])
        self._append("first_atom", ends)
        self._append("atomic_numbers", np.concatenate([sample.atoms.numbers for sample in samples]))
        self._append("positions", np.concatenate([sample.atoms.positions for sample in samples]))
        self._append("cell", np.stack([sample.atoms.cell.array for sample in samples]))
        self._append("pbc", np.stack([sample.atoms.pbc for sample in samples]))
        types = [self._types.setdefault(sample.config_type, len(self._types)) for sample in samples]
        self._append("config_type", np.array(types))
        texts = [json.dumps(statements(sample.atoms), sort_keys=True) for sample in samples]
        self._append("stated", np.array([self._stated.setdefault(text, len(self._stated)) for text in texts]))
        for kind, shape in _LABELS.items():
            rows = [sample.labels().get(kind) for sample in samples]
            counts = sizes if kind == FORCES else [1] * len(samples)
            pairs = zip(counts, [np.nan if row is None else row for row in rows], strict=True)
            self._append(f"labels/{kind}", np.concatenate([np.full((count, *shape), row) for count, row in pairs]))
        for name in NAMES:
            stated = [stated_weight(sample, name) if name in sample.stated_weights else np.nan for sample in samples]
            self._append(f"weights/{name}", np.array(stated))

    def _append(self, name: str, rows: NDArray[Any]) -> None:
        self._waiting[name].write(np.ascontiguousarray(rows, dtype=_ARRAYS[name][1]).tobytes())

    def close(self) -> None:
        """Write the file."""
        try:
            with h5py.File(self._path, "w") as file:
                file.attrs.update({"format": FORMAT, "version": VERSION})
                for name, texts in (("config_types", self._types), ("stated_texts", self._stated)):
                    file.create_dataset(name, data=list(texts), dtype=h5py.string_dtype())
                for name, waiting in self._waiting.items():
                    held = self._copied(file, name, waiting)
                    if name in _KEYS:
                        held.attrs.update({"level": _KEYS[name].level, "unit": _KEYS[name].unit})
        finally:
            for waiting in self._waiting.values():
                waiting.close()

    def _copied(self, file: h5py.File, name: str, waiting: IO[bytes]) -> h5py.Dataset:
        shape, dtype = _ARRAYS[name]
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        held = file.create_dataset(name, shape=(waiting.tell() // size, *shape), dtype=dtype)
        waiting.seek(0)
        for start in range(0, held.shape[0], _ROWS):
            rows: NDArray[Any] = np.frombuffer(waiting.read(_ROWS * size), dtype=dtype)
            held[start : start + _ROWS] = rows.reshape(-1, *shape)
        return held


_KEYS = {name: get_key(name) for name in ("atomic_numbers", "positions", "cell", "pbc")} | {
    f"labels/{kind}": get_key(kind) for kind in KINDS
}
