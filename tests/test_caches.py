"""Caches of executable code: their owner, write permissions, and the integrity of their entries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlff_calc.caches import SEAL, cache_dir, is_sealed, private_dir, seal
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


@pytest.mark.parametrize(("mode", "closed"), [(0o775, 0o755), (0o777, 0o755), (0o770, 0o750), (0o702, 0o700)])
def test_an_own_folder_is_closed_to_others(tmp_path: Path, mode: int, closed: int) -> None:
    """Older versions made folders of mode 775 with the umask 002, which are now closed."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    assert private_dir(folder) == folder
    assert folder.stat().st_mode & 0o777 == closed


def test_an_open_folder_is_refused_where_entries_are_only_names_and_behind_a_link(tmp_path: Path) -> None:
    folder, link = tmp_path / "open", tmp_path / "link"
    folder.mkdir()
    folder.chmod(0o775)
    link.symlink_to(folder)
    for refused in (lambda: private_dir(folder, close=False), lambda: private_dir(link)):
        with pytest.raises(CacheError, match=r"can be written by others \(mode 775\).*MLFF_CACHE"):
            refused()
    assert folder.stat().st_mode & 0o777 == 0o775


def test_a_folder_that_cannot_be_closed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems give every folder the same mode."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)

    def refuse(*_: object) -> None:
        raise PermissionError

    for change in (lambda *_: None, refuse):
        monkeypatch.setattr(os, "fchmod", change)
        with pytest.raises(CacheError, match=r"can be written by others.*MLFF_CACHE"):
            private_dir(tmp_path / "open")


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o775])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    folder.chmod(mode)
    os.chown(folder, 12345, 12345)
    with pytest.raises(CacheError, match="another user"):
        private_dir(folder)
    assert folder.stat().st_mode & 0o777 == mode


@needs_root
def test_files_of_root_are_used_by_users(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a cache in a container image belong to root, like those of this test, while the user is another one."""
    entry.parent.chmod(0o755)
    theirs = entry.parent / "theirs"
    theirs.mkdir(mode=0o755)
    os.chown(theirs, 12345, 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert private_dir(entry.parent) == entry.parent
    assert is_sealed(entry)
    with pytest.raises(CacheError, match="another user"):
        private_dir(theirs)
    entry.chmod(0o664)
    assert not is_sealed(entry)
    entry.parent.chmod(0o775)
    with pytest.raises(CacheError, match="can be written by others"):
        private_dir(entry.parent)
    assert entry.parent.stat().st_mode & 0o777 == 0o775


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
    """With a umask that lets a group write, unsealed entries would be made again at every use."""
    file = tmp_path / "shared.so"
    file.write_bytes(b"x")
    file.chmod(0o664)
    seal(file)
    assert file.stat().st_mode & 0o777 == 0o644
    assert is_sealed(file)


def test_without_a_home_folder_the_error_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MLFF_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(CacheError, match=r"no home folder.*set MLFF_CACHE"):
        cache_dir("exports")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir("exports") == tmp_path / "mlff_calc" / "exports"
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "own"))
    assert cache_dir("exports") == tmp_path / "own" / "exports"
