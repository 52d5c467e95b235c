"""Matrices of others: archives, QH9's database and SchNOrb's, made small in their layouts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.db import connect

from mlff_calc.datasets.matrix_readers import NpzMatrices, open_matrices
from mlff_calc.errors import DatasetError, OptionError

NUMBERS = np.array([8, 1, 1])
LEVEL = {"xc": "pbe", "basis": "def2-svp"}


def symmetric(n: int, seed: int) -> np.ndarray:
    half = np.random.default_rng(seed).normal(size=(n, n))
    return half + half.T


def places(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, 3))


def write_qh9(path: Path, rows: list[tuple]) -> None:
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE metadata (id INTEGER PRIMARY KEY, count INTEGER)")
    base.execute("CREATE TABLE data (id INTEGER PRIMARY KEY, N INTEGER, Z BLOB, pos BLOB, Ham BLOB)")
    base.executemany("INSERT INTO data VALUES (?, ?, ?, ?, ?)", rows)
    base.commit()
    base.close()


def row(number: int) -> tuple:
    return number, 3, NUMBERS.astype(np.int32).tobytes(), places(number).tobytes(), symmetric(24, number).tobytes()


def test_qh9_is_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "QH9 Stable?.db"
    write_qh9(path, [row(0), row(1), row(5)])
    source = open_matrices(path, "qh9", {"xc": "b3lyp5"})
    assert len(source) == 3
    assert source.settings | {"xc": "b3lyp5", "basis": "def2-svp", "grid_level": 3} == source.settings
    for number, stored in ((2, 5), (-3, 0)):
        frame = source[number]
        assert (frame.order, frame.overlap, frame.energy) == ("pyscf", None, None)
        assert frame.numbers.tolist() == NUMBERS.tolist()
        np.testing.assert_array_equal(frame.positions, places(stored))
        np.testing.assert_array_equal(frame.fock, symmetric(24, stored))
    with pytest.raises(IndexError):
        source[3]


@pytest.mark.parametrize("xc", ["b3lyp", "B3LYP", "pbe", None])
def test_qh9_is_not_read_as_plain_b3lyp(tmp_path: Path, xc: str | None) -> None:
    write_qh9(tmp_path / "a.db", [row(0)])
    with pytest.raises(OptionError, match=r"b3lyp5 for Stable and Dynamic-300k.*b3lypg"):
        open_matrices(tmp_path / "a.db", "qh9", None if xc is None else {"xc": xc})
    assert open_matrices(tmp_path / "a.db", "qh9", {"xc": "b3lypg"}).settings["xc"] == "b3lypg"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((0, 3, NUMBERS.astype(np.int32).tobytes()[:-1], places(0).tobytes(), symmetric(24, 0).tobytes()), "Z has 11 bytes"),
        ((0, 4, NUMBERS.astype(np.int32).tobytes(), places(0).tobytes(), symmetric(24, 0).tobytes()), "Z has 12 bytes"),
        ((0, 3, NUMBERS.astype(np.int32).tobytes(), places(0).tobytes(), symmetric(24, 0).tobytes()[:-8]), "Ham has"),
        ((0, 3, NUMBERS.astype(np.int32).tobytes(), places(0).tobytes(), np.triu(symmetric(24, 0)).tobytes()), "symmetric"),
        ((0, "x", NUMBERS.astype(np.int32).tobytes(), places(0).tobytes(), symmetric(24, 0).tobytes()), "Z has"),
        ((0, -3, NUMBERS.astype(np.int32).tobytes(), places(0).tobytes(), symmetric(24, 0).tobytes()), "Z has"),
        ((0, 3, None, places(0).tobytes(), symmetric(24, 0).tobytes()), "not in the layout"),
    ],
)
def test_damaged_rows_of_qh9_are_named(tmp_path: Path, wrong: tuple, message: str) -> None:
    write_qh9(tmp_path / "a.db", [wrong, row(1)])
    source = open_matrices(tmp_path / "a.db", "qh9", {"xc": "b3lyp5"})
    with pytest.raises(DatasetError, match=rf"a\.db, row 0.*{message}"):
        source[0]
    assert source[1].source == 1


def test_schnorb_is_read_in_the_order_of_orca(tmp_path: Path) -> None:
    path = tmp_path / "schnorb.db"
    with connect(str(path)) as base:
        for number in range(3):
            data = {
                "energy": np.array([-76.0]), "forces": np.zeros((3, 3)), "hamiltonian": symmetric(24, number),
                "overlap": symmetric(24, number + 9),
            }  # fmt: skip
            base.write(Atoms(NUMBERS, places(number)), data=data)
    source = open_matrices(path, "schnorb")
    assert (len(source), source.settings) == (3, LEVEL)
    assert source[1].order == "orca"
    np.testing.assert_array_equal(source[1].fock, symmetric(24, 1))
    np.testing.assert_array_equal(source[1].overlap, symmetric(24, 10))
    np.testing.assert_array_equal(source[1].positions, places(1))
    with connect(str(path)) as base:
        base.write(Atoms(NUMBERS, places(0)), data={"energy": 1.0})
    with pytest.raises(DatasetError, match="row 4 has no hamiltonian"):
        open_matrices(path, "schnorb")[3]


def test_other_databases_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("hello")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE data (id INTEGER, N INTEGER)").connection.close()
    write_qh9(tmp_path / "cut.db", [row(number) for number in range(20)])
    (tmp_path / "cut.db").write_bytes((tmp_path / "cut.db").read_bytes()[:6000])
    for name in ("text.db", "other.db", "absent.db", "cut.db"):
        for format, settings in (("qh9", {"xc": "b3lyp5"}), ("schnorb", None)):
            with pytest.raises(DatasetError, match=name):
                open_matrices(tmp_path / name, format, settings)[0]


def test_archives_are_read_with_the_level_and_order_that_the_user_names(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = {
        "z": NUMBERS, "R": np.stack([places(0), places(1)]), "fock": np.stack([symmetric(24, 0), symmetric(24, 1)]),
        "overlap": np.stack([symmetric(24, 2), symmetric(24, 3)]), "e_ref": np.array([1.0, 2.0]),
    }  # fmt: skip
    np.savez(path, **arrays)
    source = open_matrices(path, settings=LEVEL)
    assert (len(source), source.settings, source[1].order, source[1].energy) == (2, LEVEL, "pyscf", None)
    np.testing.assert_array_equal(source[1].overlap, symmetric(24, 3))
    assert NpzMatrices(path, LEVEL, "orca")[0].order == "orca"
    with pytest.raises(OptionError, match="name its basis"):
        open_matrices(path, settings={"xc": "pbe"})
    with pytest.raises(OptionError, match="unknown order of orbitals 'psi4'"):
        open_matrices(path, settings=LEVEL, order="psi4")
    with pytest.raises(OptionError, match="format 'xyz'"):
        open_matrices(path, "xyz")
    for name in ("water.extxyz", "water.db", "water"):
        with pytest.raises(OptionError, match=f"the name of {name} does not tell its format"):
            open_matrices(name)
    with pytest.raises(DatasetError, match="is a folder; name a file"):
        open_matrices(tmp_path)
    np.savez(path, **arrays | {"R": arrays["R"][:1]})
    with pytest.raises(DatasetError, match="fock"):
        open_matrices(path, settings=LEVEL)


def test_real_archives_are_read(data_dir: Path) -> None:
    source = open_matrices(data_dir / "hamiltonian" / "water_1000_rhf_sto3g.npz", settings={"xc": "hf", "basis": "sto-3g"})
    assert len(source) == 900
    np.testing.assert_allclose(np.diagonal(source[17].overlap), 1.0, atol=1e-6)
