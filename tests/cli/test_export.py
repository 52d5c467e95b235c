"""`mlff export` as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlff_calc.export import read_metadata


def mlff(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlff_calc.cli.main", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ethanol", "silicon_deq"])
def test_a_shipped_potential_for_lammps(name: str, tmp_path: Path) -> None:
    done = mlff("export", name, "--to", "lammps", "-o", "p.pt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cutoff 5 Angstrom, float32, torchscript" in done.stdout
    assert read_metadata(tmp_path / "p.pt").kind == "lammps"
    again = mlff("export", name, "--to", "lammps", "-o", "p.pt", cwd=tmp_path)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr


def test_mistakes(tmp_path: Path) -> None:
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
