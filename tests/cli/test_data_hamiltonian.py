"""`mlff data hamiltonian`: labels, a summary, and one clear error for each wrong input."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from mlff_calc.datasets.matrix_files import MatrixFile

pytestmark = pytest.mark.electronic
LEVEL = ("--xc", "b3lyp", "--basis", "sto-3g", "--grid-level", "0")


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    atoms = molecule("H2O")
    atoms.rattle(0.03, seed=1)
    write(tmp_path / "in.extxyz", [atoms, Atoms("OH", [[0, 0, 0], [0, 0, 1]])])
    return tmp_path / "in.extxyz"


def test_structures_are_labelled_and_failures_told(structures: Path, mlff) -> None:
    pytest.importorskip("pyscf")
    output = structures.with_name("out.h5")
    done = mlff("data", "hamiltonian", structures, *LEVEL, "-o", output)
    assert done.returncode == 0, done.stderr
    assert "1 molecules (b3lyp/sto-3g, grid 0" in done.stdout
    assert "structure 1: the molecule has an odd number of electrons" in done.stdout
    assert "b3lyp5" in done.stdout  # the trap is told
    file = MatrixFile(output)
    assert (len(file), file[0].fock.shape, file[0].forces is not None) == (1, (7, 7), True)
    again = mlff("data", "hamiltonian", structures, *LEVEL, "-o", output)
    assert (again.returncode, again.stdout) == (1, "")
    assert "is there already" in again.stderr
    assert mlff("data", "hamiltonian", structures, *LEVEL, "-o", output, "--resume", "-q").returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"--xc": "b3lpy"}, "did you mean 'b3lyp'?"),
        ({"--basis": "sto3"}, "unknown basis 'sto3'"),
        ({"--conv-tol": "0"}, "conv_tol is 0.0"),
        ({"-o": "out.npz"}, "ends in .h5"),
        ({"-o": "absent/out.h5"}, "is not there"),
        ({"structures": "im.extxyz"}, "did you mean"),
        ({"--index": "7:"}, "selects none"),
    ],
)
def test_wrong_input_is_one_error_before_anything_is_written(structures: Path, mlff, words: dict, message: str) -> None:
    pytest.importorskip("pyscf")
    given = {"structures": structures.name, "-o": "out.h5", **dict(zip(LEVEL[::2], LEVEL[1::2], strict=True))} | words
    first = given.pop("structures")
    done = mlff("data", "hamiltonian", first, *(word for pair in given.items() for word in pair), cwd=structures.parent)
    assert done.returncode == 1
    assert done.stderr.startswith("mlff: error: ")
    assert message in done.stderr
    assert [each.name for each in structures.parent.iterdir()] == ["in.extxyz"]


def test_without_pyscf_the_command_says_what_to_install(structures: Path, mlff, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pyscf"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyscf", None)  # type: ignore[arg-type]
    done = mlff("data", "hamiltonian", structures, *LEVEL, "-o", structures.with_name("out.h5"))
    assert done.returncode == 1
    assert 'pip install "mlff_calc[electronic]"' in done.stderr
    assert [each.name for each in structures.parent.iterdir()] == ["in.extxyz"]
