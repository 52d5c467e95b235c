"""The C++ compiler: the one named by CXX, otherwise the first of the usual ones, otherwise an error with the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlff_calc.compilers import find_compiler
from mlff_calc.errors import OptionError
from mlff_calc.export import require_compiler
from mlff_calc.lammps import build


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are searched."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


def put(folder: Path, name: str) -> str:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return str(folder / name)


def test_the_first_that_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = put(folder, "c++")
    assert find_compiler("x", "y") == build.find_compiler() == last
    first = put(folder, "g++")
    put(folder, "clang++")
    assert find_compiler("x", "y") == build.find_compiler() == first
    monkeypatch.setenv("CXX", put(folder, "mine"))
    assert find_compiler("x", "y") == build.find_compiler() == str(folder / "mine")
    require_compiler()


def test_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, "g++")
    monkeypatch.setenv("CXX", "icpx")  # a compiler that is named is never replaced
    with pytest.raises(OptionError, match=r"^x needs one and found none \(icpx\); buy one$"):
        find_compiler("x needs one", "buy one")
    with pytest.raises(OptionError, match=r"found none \(icpx\); install g\+\+, or leave compile off"):
        require_compiler()
    (folder / "g++").unlink()
    monkeypatch.delenv("CXX")
    with pytest.raises(OptionError, match=r"C\+\+20 compiler and found none \(g\+\+, clang\+\+, c\+\+\).*mlff lammps run"):
        build.find_compiler()
