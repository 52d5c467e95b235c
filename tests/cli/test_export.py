"""`mlff export` on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlff_calc.export import read_metadata


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ethanol", "silicon_deq"])
def test_a_shipped_potential_for_lammps(name: str, tmp_path: Path, mlff: Callable) -> None:
    done = mlff("export", name, "--to", "lammps", "-o", "p.pt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cutoff 5 Angstrom, float32, torchscript" in done.stdout
    assert read_metadata(tmp_path / "p.pt").kind == "lammps"
    again = mlff("export", name, "--to", "lammps", "-o", "p.pt", cwd=tmp_path)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr


def test_mistakes(tmp_path: Path, mlff: Callable) -> None:
    for words, message in (
        (["ethano", "-o", "p.pt"], "did you mean 'ethanol'"),
        (["ethanol", "-o", "p.txt"], "ends in .pt"),
        (["ethanol", "-o", "p.pt", "--reuse", "fast"], "fixed point"),
    ):
        done = mlff("export", *words, cwd=tmp_path)
        assert done.returncode == 1, done.stdout
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
