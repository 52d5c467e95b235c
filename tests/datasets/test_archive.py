"""Declared sizes of arrays in archives are checked before memory is allocated."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mlff_calc.datasets import Units, read_structures
from mlff_calc.datasets.archive import read_arrays
from mlff_calc.errors import DatasetError


def npy(shape: tuple[int, ...], descr: str, body: bytes) -> bytes:
    """Return an array with an arbitrary header."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": descr, "fortran_order": False, "shape": shape})
    return content.getvalue() + body


def archive(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as stream:
        for name, content in members.items():
            stream.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("shape", "descr"),
    [
        ((10**12,), "<f8"),
        ((10**20, 3), "<f8"),
        ((3,), "<U10000000"),
        ((4,), "<f8"),
        ((2,), "<f8"),
        ((3,), "<f4"),
        ((), "<f8"),
    ],
)
def test_heads_that_do_not_fit_the_bytes(tmp_path: Path, shape: tuple[int, ...], descr: str, compression: int) -> None:
    path = archive(tmp_path / "x.npz", compression, R=npy(shape, descr, bytes(24)))
    with pytest.raises(DatasetError, match=r"'R' claims shape .*24 bytes, which cannot be read as that"):
        read_arrays(path, ["R"])
    assert read_arrays(archive(path, compression, R=npy((3,), "<f8", bytes(24))), ["R"])["R"].tolist() == [0.0] * 3


def test_archives_that_unpack_to_far_more_than_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "x.npz", zipfile.ZIP_DEFLATED, R=npy((10**6,), "<f8", bytes(8 * 10**6)))
    assert len(read_arrays(path, ["R"])["R"]) == 10**6
    monkeypatch.setattr("mlff_calc.datasets.archive.MOST_UNPACKED", 10**6)
    with pytest.raises(DatasetError, match=r"claims to unpack to 80\d+, more than .*numpy.savez"):
        read_arrays(path, ["R"])


def test_an_encrypted_member(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", R=npy((3,), "<f8", bytes(24)))
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DatasetError, match="encrypted"):
        read_arrays(path, ["R"])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("e_unit", np.asarray(["eV", "eV"]), "'e_unit' has shape"),
        ("r_unit", np.asarray(3.0), "'r_unit' has shape"),
        ("cell", np.eye(2), r"'cell' has shape \[2, 2\]"),
        ("cell", np.zeros((1, 3, 3)), r"'cell' has shape \[1, 3, 3\]"),
        ("E", np.asarray(1.0), "'E' has no frames"),
        ("E", np.asarray([1j, 0]), "not real numbers"),
        ("E", np.zeros(2, "datetime64[s]"), "not real numbers"),
        ("F", np.zeros((2, 1, 3), complex), "not real numbers"),
    ],
)
def test_labels_cells_and_units_of_another_kind(tmp_path: Path, name: str, value: np.ndarray, said: str) -> None:
    arrays = {"z": np.asarray([6]), "R": np.zeros((2, 1, 3)), "E": np.zeros(2), "F": np.zeros((2, 1, 3)), "cell": np.eye(3)}
    units = {"e_unit": np.asarray("eV"), "r_unit": np.asarray("Ang")}
    np.savez(tmp_path / "x.npz", **arrays, **units)
    assert len(read_structures(tmp_path / "x.npz")) == 2
    np.savez(tmp_path / "x.npz", **(arrays | units | {name: value}))
    with pytest.raises(DatasetError, match=said):
        read_structures(tmp_path / "x.npz", units=None if name.endswith("unit") else Units())
