"""Files of matrices: what was written comes back, frame by frame, and damaged files are named."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from mlff_calc.datasets.matrix_files import MatrixFile, write_matrices
from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.datasets.packing import pack, unpack
from mlff_calc.datasets.rows import opened
from mlff_calc.errors import DatasetError

BASIS = {"name": "sto-3g", "shells": {"1": [0], "8": [0, 0, 1]}}
SETTINGS = {"xc": "pbe", "basis": "sto-3g", "grid_level": 1}


def made(numbers: list[int], seed: int, source: int) -> MatrixFrame:
    random = np.random.default_rng(seed)
    n = sum({1: 1, 8: 5}[number] for number in numbers)

    def matrix() -> np.ndarray:
        half = random.normal(size=(n, n))
        return half + half.T

    return MatrixFrame(
        np.array(numbers), random.normal(size=(len(numbers), 3)), matrix(), matrix(), matrix(), float(random.normal()),
        random.normal(size=(len(numbers), 3)), charge=seed % 2, cycles=7, source=source,
    )  # fmt: skip


@pytest.fixture
def frames() -> list[MatrixFrame]:
    last = replace(made([8, 1, 1, 1], 3, 5), forces=None, energy=None, cycles=None)
    return [made([8, 1, 1], 1, 0), made([1, 1], 2, 2), last]


@pytest.fixture
def path(tmp_path: Path, frames: list[MatrixFrame]) -> Path:
    write_matrices(tmp_path / "a.h5", frames, SETTINGS, BASIS, [(1, "no, not at all"), (3, "é")])
    return tmp_path / "a.h5"


def test_frames_come_back_bit_for_bit(path: Path, frames: list[MatrixFrame]) -> None:
    file = pickle.loads(pickle.dumps(MatrixFile(path)))  # as processes of a data loader get it
    assert (len(file), file.settings, file.basis) == (3, SETTINGS, BASIS)
    assert file.failures == [(1, "no, not at all"), (3, "é")]
    assert len(list(file)) == 3
    for number, frame in enumerate(frames):
        for found in (file[number], file[number - 3]):
            for name in ("numbers", "positions", "fock", "overlap", "initial", "forces"):
                np.testing.assert_array_equal(getattr(found, name), getattr(frame, name))
            for name in ("energy", "charge", "cycles", "source", "order"):
                assert getattr(found, name) == getattr(frame, name)
        assert file.numbers(number).tolist() == frame.numbers.tolist()
    assert file[0].atoms.info == {"charge": 1}
    with pytest.raises(IndexError, match="no frame 3"):
        file[3]


def test_truncated_files_are_refused_by_name(path: Path) -> None:
    whole = path.read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 8):
        path.write_bytes(whole[:size])
        with pytest.raises(DatasetError, match=r"a\.h5 .*complete"):
            MatrixFile(path)


def test_foreign_files_are_refused_by_name(path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    for name, message in (("text.h5", "HDF5"), ("other.h5", "not a file of matrices"), ("absent.h5", "cannot be read")):
        with pytest.raises(DatasetError, match=rf"{name}.*{message}"):
            MatrixFile(tmp_path / name)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 9
    with pytest.raises(DatasetError, match="version 9"):
        MatrixFile(path)


def change(name: str, values: object) -> object:
    def of(file: h5py.File) -> None:
        if values is None:
            del file[name]
        elif name in file:
            del file[name]
            file[name] = values
        else:
            file.attrs[name] = values

    return of


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("fock", None), ("fock", np.zeros(3)),
        ("first_atom", np.array([0, 3, 2, 9])), ("first_atom", np.array([1, 3, 5, 9])),
        ("first_entry", np.array([0, 28, 31])), ("energy", np.zeros(2)), ("basis", json.dumps({"name": "x"})),
        ("basis", json.dumps({"name": "x", "shells": {"8": [0, 99]}})), ("settings", "[1]"), ("settings", "{"),
        ("failed_source", np.array([1])),
    ],
)  # fmt: skip
def test_damaged_tables_are_refused(path: Path, name: str, values: object) -> None:
    with h5py.File(path, "a") as file:
        change(name, values)(file)  # type: ignore[operator]
    with pytest.raises(DatasetError, match=r"a\.h5"):
        MatrixFile(path)


def test_damaged_frames_are_refused_and_others_are_read(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["fock"][0] = np.nan
        file["atomic_numbers"][3] = 6
    found = MatrixFile(path)
    with pytest.raises(DatasetError, match="frame 0: fock holds values that are not finite"):
        found[0]
    with pytest.raises(DatasetError, match="frame 1: the basis is for H, O, not for Z = 6"):
        found[1]
    assert found[2].source == 5


def test_a_file_that_is_replaced_while_it_is_read_is_noticed(path: Path, frames: list[MatrixFrame]) -> None:
    file = MatrixFile(path)
    write_matrices(path, frames[::-1], SETTINGS, BASIS)
    np.testing.assert_array_equal(file[0].fock, frames[0].fock)  # the old file, which is still open
    opened.cache_clear()
    with pytest.raises(DatasetError, match="replaced"):
        file[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fock": np.full((7, 7), np.inf)}, "fock holds values that are not finite"),
        ({"fock": np.triu(np.ones((7, 7)))}, "fock is not symmetric"),
        ({"fock": np.zeros((6, 6))}, r"shape \[6, 6\]"),
        ({"overlap": None}, "needs overlap"),
        ({"order": "pyscf"}, "in our order"),
        ({"numbers": np.array([8, 1, 6])}, "not for Z = 6"),
        ({"positions": np.zeros((2, 3))}, "positions has shape"),
        ({"energy": float("nan")}, "energy is nan"),
    ],
)
def test_wrong_frames_are_not_written(tmp_path: Path, frames: list[MatrixFrame], wrong: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        write_matrices(tmp_path / "b.h5", [replace(frames[0], **wrong)], SETTINGS, BASIS)
    assert not list(tmp_path.iterdir())


def test_packed_values_come_back() -> None:
    values = {"number": 3, "matrix": np.arange(6.0).reshape(2, 3).T, "text": np.frombuffer(b"why", dtype=np.uint8)}
    found = unpack(pack(values), "here")
    assert (int(found["number"]), bytes(found["text"])) == (3, b"why")
    np.testing.assert_array_equal(found["matrix"], values["matrix"])
    with pytest.raises(DatasetError, match="here"):
        unpack(pack(values)[:-1], "here")
