"""Caches of code that runs: whose they are, who may write them, and whether they are what was put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlff_calc.caches import SEAL, is_sealed, private_dir, seal
from mlff_calc.errors import CacheError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    file = tmp_path / "entry.pt2"
    file.write_bytes(bytes(range(256)) * 8)
    seal(file)
    return file


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    folder = private_dir(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_dir(folder) == folder


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    with pytest.raises(CacheError, match=r"can be written by others.*MLFF_CACHE"):
        private_dir(tmp_path / "open")


@needs_root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 12345, 12345)
    with pytest.raises(CacheError, match="another user"):
        private_dir(tmp_path / "theirs")


def test_sealed(entry: Path) -> None:
    assert is_sealed(entry)


@pytest.mark.parametrize("place", [0, 1000, 2047])
def test_one_bit_breaks_the_seal(entry: Path, place: int) -> None:
    content = bytearray(entry.read_bytes())
    content[place] ^= 4
    entry.write_bytes(bytes(content))
    assert not is_sealed(entry)


@pytest.mark.parametrize("name", ["", SEAL])
def test_an_entry_that_others_may_write(entry: Path, name: str) -> None:
    entry.with_name(entry.name + name).chmod(0o666)
    assert not is_sealed(entry)


@needs_root
@pytest.mark.parametrize("name", ["", SEAL])
def test_an_entry_of_another_user(entry: Path, name: str) -> None:
    os.chown(entry.with_name(entry.name + name), 12345, 12345)
    assert not is_sealed(entry)


@pytest.mark.parametrize("name", ["", SEAL])
def test_a_missing_half_and_a_link(entry: Path, tmp_path: Path, name: str) -> None:
    half = entry.with_name(entry.name + name)
    half.rename(tmp_path / "moved")
    assert not is_sealed(entry)
    half.symlink_to(tmp_path / "moved")
    assert not is_sealed(entry)


def test_a_seal_that_is_no_text(entry: Path) -> None:
    entry.with_name(entry.name + SEAL).write_bytes(b"\xff\xfe")
    assert not is_sealed(entry)


def test_sealing_takes_permissions_away(tmp_path: Path) -> None:
    """A umask that lets a group write would otherwise make every entry anew at every use."""
    file = tmp_path / "shared.so"
    file.write_bytes(b"x")
    file.chmod(0o664)
    seal(file)
    assert file.stat().st_mode & 0o777 == 0o644
    assert is_sealed(file)
