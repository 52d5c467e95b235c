"""Cached compiled potentials that may come from other users are replaced, and their code never runs."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from ase.build import molecule

from mlff_calc.caches import SEAL, digest_of, is_sealed, seal
from mlff_calc.errors import CacheError
from mlff_calc.export import compile_potential
from mlff_calc.export.cache import cache_key
from mlff_calc.graph import graph_from_atoms
from mlff_calc.potential import Potential, build_potential

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
SIZES = {"cutoff": 4.0, "l_max": 1, "channels": 4, "n_layers": 1, "edge_channels": 4}


def small_potential() -> Potential:
    return build_potential({"backbone": {"name": "equiformer", **SIZES}, "elements": ["H", "O"]}, seed=3).eval()


def library(folder: Path, marker: Path) -> Path:
    """Build a library that creates a file when it is loaded."""
    source, file = folder / "evil.cpp", folder / "evil.so"
    source.write_text(
        f'#include <cstdio>\n__attribute__((constructor)) void go() {{ std::fclose(std::fopen("{marker}", "w")); }}\n'
    )
    subprocess.run(["g++", "-shared", "-fPIC", "-o", file, source], check=True)
    return file


class MadeAnewError(Exception):
    """Replace the compilation, which takes a minute."""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture
def entry(tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a malicious package under the name used by the cache."""
    evil = library(tmp_path, marker)
    ctypes.CDLL(str(evil))
    assert marker.is_file()  # so loading the library would be noticed
    marker.unlink()
    (tmp_path / "cache").mkdir(mode=0o700)
    file = tmp_path / "cache" / f"{cache_key(small_potential(), torch.device('cpu'), torch.get_num_threads())}.pt2"
    copy = shutil.copy(evil, tmp_path / "other.so")  # a library is loaded only once per path
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
        archive.write(copy, "model/data/aotinductor/model/model.wrapper.so")

    def made(*_: object) -> None:
        raise MadeAnewError

    monkeypatch.setattr("mlff_calc.export.compiled._compile", made)
    return file


def only_seal_of(file: Path, text: str) -> None:
    file.with_name(file.name + SEAL).write_text(text)


def by_link(file: Path) -> None:
    seal(file)
    elsewhere = file.rename(file.parents[1] / "elsewhere")
    file.symlink_to(elsewhere)


def given_away(file: Path) -> None:
    seal(file)
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(file, 12345, 12345)


CASES = {
    "without a seal": lambda file: None,
    "with another seal": lambda file: only_seal_of(file, "0" * 64),
    "with an empty seal": lambda file: only_seal_of(file, ""),
    "written by a group": lambda file: (seal(file), file.chmod(0o664)),
    "written by everybody": lambda file: (seal(file), file.chmod(0o646)),
    "with a seal that others write": lambda file: (seal(file), file.with_name(file.name + SEAL).chmod(0o666)),
    "through a link": by_link,
    "of another user": given_away,
}


@pytest.mark.parametrize("case", CASES)
def test_an_entry_of_another_user_is_made_again(entry: Path, marker: Path, case: str) -> None:
    CASES[case](entry)
    with pytest.raises(MadeAnewError):
        compile_potential(small_potential(), cache_dir=entry.parent)
    assert not marker.exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707])
@pytest.mark.parametrize("case", CASES)
def test_entries_of_others_in_an_open_folder_are_made_again(entry: Path, marker: Path, mode: int, case: str) -> None:
    CASES[case](entry)
    entry.parent.chmod(mode)
    with pytest.raises(MadeAnewError):
        compile_potential(small_potential(), cache_dir=entry.parent)
    assert not marker.exists()
    assert entry.parent.stat().st_mode & 0o777 == mode & ~0o022


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(entry: Path, marker: Path) -> None:
    seal(entry)
    os.chown(entry.parent, 12345, 12345)
    with pytest.raises(CacheError, match="another user"):
        compile_potential(small_potential(), cache_dir=entry.parent)
    assert not marker.exists()


@pytest.mark.slow
def test_entries_with_flipped_bits_are_made_again_and_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits of a real entry are flipped. Its replacement is a copy of the intact entry, so that the test need not compile."""
    potential = small_potential()
    compiled = compile_potential(potential, cache_dir=tmp_path / "cache")
    graph = graph_from_atoms(molecule("H2O"), 4.0)
    expected = compiled(graph)
    shutil.copytree(tmp_path / "cache", tmp_path / "sound")
    opened: list[str] = []
    load = torch._inductor.aoti_load_package
    monkeypatch.setattr(
        "torch._inductor.aoti_load_package", lambda path, **how: (opened.append(digest_of(Path(path))), load(path, **how))[1]
    )

    def made(*_: object) -> None:
        for name in (compiled.path.name, compiled.path.name + SEAL):
            shutil.copy(tmp_path / "sound" / name, compiled.path.with_name(name))

    monkeypatch.setattr("mlff_calc.export.compiled._compile", made)
    whole, generator = compiled.path.read_bytes(), random.Random(7)
    for _ in range(20):
        content, place = bytearray(whole), generator.randrange(len(whole))
        content[place] ^= 1 << generator.randrange(8)
        compiled.path.write_bytes(bytes(content))
        assert not is_sealed(compiled.path)
        found = compile_potential(potential, cache_dir=tmp_path / "cache")(graph)
        torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=0)
    assert set(opened) == {digest_of(tmp_path / "sound" / compiled.path.name)}
