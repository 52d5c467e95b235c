"""Patterns of files, names that distinguish them, and frames that are selected twice."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mlff_calc.datasets import read_structures
from mlff_calc.datasets.several import matching_files, refuse_frames_twice, short_names
from mlff_calc.errors import DatasetError

FILES = ("b.extxyz", "a.extxyz", "a10.extxyz", ".hidden.extxyz", "note.txt", "x/c.extxyz", "x/y/d.extxyz", "a[1].extxyz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder whose name looks like a pattern."""
    root = tmp_path / "run[1]*"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.extxyz", ["a.extxyz"]),
        ("*.extxyz", ["a.extxyz", "a10.extxyz", "a[1].extxyz", "b.extxyz"]),
        ("a??.extxyz", ["a10.extxyz"]),
        ("[ab].extxyz", ["a.extxyz", "b.extxyz"]),
        ("a[1].extxyz", ["a[1].extxyz"]),
        ("x/*.extxyz", ["x/c.extxyz"]),
        ("*/*.extxyz", ["x/c.extxyz"]),
        ("x/**/*.extxyz", ["x/c.extxyz", "x/y/d.extxyz"]),
        ("x/../?.extxyz", ["x/../a.extxyz", "x/../b.extxyz"]),
    ],
)
def test_patterns(folder: Path, pattern: str, expected: list[str]) -> None:
    assert [os.path.relpath(file, folder) for file in matching_files(pattern, folder)] == [
        os.path.relpath(folder / name, folder) for name in expected
    ]


def test_an_absolute_pattern_is_used_unchanged(folder: Path, tmp_path: Path) -> None:
    assert matching_files(f"{tmp_path}/run*/b.*", "/nowhere") == [folder / "b.extxyz"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("c*.extxyz", r"no file matches 'c\*\.extxyz' in the folder .*run\[1\]\*, which holds a\.extxyz, a10\.extxyz"),
        ("x/*.xyz", r"no file matches '\*\.xyz' in the folder .*/x, which holds c\.extxyz, y;"),
        ("z/*.xyz", r"there is no folder .*/z, in which '\*\.xyz' should match files"),
        ("bb.extxyz", r"there is no file .*bb\.extxyz; did you mean .*b\.extxyz\?"),
        ("x", r"is a folder; name a file in it"),
        ("a\0*", r"holds a NUL character"),
    ],
)
def test_a_pattern_without_matches_is_one_clear_error(folder: Path, pattern: str, expected: str) -> None:
    with pytest.raises(DatasetError, match=expected):
        matching_files(pattern, folder)


def test_names_are_as_long_as_needed() -> None:
    paths = [Path(name) for name in ("/d/a.xyz", "/d/one/b.xyz", "/d/two/b.xyz", "/e/two/b.xyz")]
    assert list(short_names(paths).values()) == ["a.xyz", "one/b.xyz", "d/two/b.xyz", "e/two/b.xyz"]
    assert list(short_names([paths[1], paths[1]]).values()) == ["b.xyz"]


FRAME = '1\nProperties=species:S:1:pos:R:3 energy={} pbc="F F F"\nCu 0 0 0\n'


def test_a_frame_is_named_once(tmp_path: Path) -> None:
    one, copy, link, other = (tmp_path / f"{name}.extxyz" for name in ("one", "copy", "link", "other"))
    for path in (one, copy):
        path.write_text("".join(FRAME.format(-n) for n in range(6)))
    other.write_text("".join(FRAME.format(-n - 1) for n in range(6)))
    link.symlink_to(one)

    def read(*entries: tuple[Path, str]) -> None:
        refuse_frames_twice([(path, read_structures(path, index)) for path, index in entries])

    read((one, ":3"), (one, "3:"), (other, ":"))
    read((one, "::2"), (copy, "1::2"))
    with pytest.raises(DatasetError, match=r"frames of .*one\.extxyz are named twice, 1 in all, the first is frame 3"):
        read((one, ":4"), (one, "3:"))
    for path in (copy, link):
        with pytest.raises(DatasetError, match=r"frames of .* \(the same file as .*one\.extxyz\) are named twice, 6"):
            read((one, ":"), (other, ":"), (path, ":"))


def test_parts_of_an_archive_are_not_the_same_frames(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {f"{name}_{part}": random.normal(size=(3, 2, 3)) for name in "RF" for part in ("train", "test")}
    arrays |= {f"E_{part}": np.zeros(3) for part in ("train", "test")}
    np.savez(tmp_path / "a.npz", z=[29, 29], **arrays)
    train, test = (read_structures(tmp_path / "a.npz", part=part) for part in ("train", "test"))
    refuse_frames_twice([(tmp_path / "a.npz", train), (tmp_path / "a.npz", test)])
    with pytest.raises(DatasetError, match="twice, 3 in all"):
        refuse_frames_twice([(tmp_path / "a.npz", train), (tmp_path / "a.npz", train)])
