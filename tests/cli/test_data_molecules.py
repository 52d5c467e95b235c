"""`mlff data molecules`: structures from SMILES at the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest

pytest.importorskip("rdkit")

Mlff = Callable[..., subprocess.CompletedProcess[str]]


def test_a_list_becomes_structures(tmp_path: Path, mlff: Mlff) -> None:
    (tmp_path / "list.smi").write_text("CCO ethanol\nC[NH3+]\nCC.O\nOCC\nCO\n")
    out = tmp_path / "out.extxyz"
    told = mlff("data", "molecules", str(tmp_path / "list.smi"), "-o", str(out), "--distortions", "2", "--elements", "C,H,O")
    assert "6 structures of 2 molecules are in" in told.stdout
    assert "3 of 5 SMILES are left out wholly or in part" in told.stdout
    for words in ("1 charged", "1 several molecules in one", "1 the molecule of an earlier SMILES"):
        assert words in told.stdout
    assert set(json.loads(Path(f"{out}.failures.json").read_text())) == {"1", "2", "3"}
    frames = ase.io.read(out, ":")
    assert [frame.info["distortion"] for frame in frames] == [0, 1, 2, 0, 1, 2]
    assert "300 K" in frames[1].info["made"]


def test_molecules_are_drawn_without_a_file(tmp_path: Path, mlff: Mlff) -> None:
    told = mlff("data", "molecules", "--bundled", "4", "-o", str(tmp_path / "out.extxyz"), "--max-atoms", "16", "--quiet")
    assert told.stdout == ""
    frames = ase.io.read(tmp_path / "out.extxyz", ":")
    assert len({frame.info["smiles"] for frame in frames}) == 4
    assert max(map(len, frames)) <= 16


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "give a file of SMILES, or --bundled N, and not both"),
        (("--bundled", "3", "list.smi"), "give a file of SMILES, or --bundled N, and not both"),
        (("--bundled", "3", "--elements", "C Hx"), "give symbols such as"),
        (("--bundled", "3", "--max-atoms", "0"), "greater than or equal to 1"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, mlff: Mlff, arguments: tuple[str, ...], expected: str) -> None:
    told = mlff("data", "molecules", "-o", str(tmp_path / "out.extxyz"), *arguments)
    assert told.returncode == 2
    assert expected in " ".join(told.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())
