"""`mlff data energies`: a file of energies, what is told, and one clear error for each wrong input."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from mlff_calc.datasets.energy_files import EnergyFile

pytestmark = pytest.mark.electronic
LEVEL = ("--method", "b3lyp", "--basis", "sto-3g", "--grid-level", "0")


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    atoms = molecule("H2O")
    atoms.rattle(0.03, seed=1)
    write(tmp_path / "in.extxyz", [atoms, Atoms("OH", [[0, 0, 0], [0, 0, 1]])])
    return tmp_path / "in.extxyz"


def test_energies_are_written_and_failures_told(structures: Path, mlff) -> None:
    pytest.importorskip("pyscf")
    output = structures.with_name("out.extxyz")
    done = mlff("data", "energies", structures, *LEVEL, "-o", output)
    assert done.returncode == 0, done.stderr
    assert "1 molecules (b3lyp/sto-3g, grid 0, conv_tol 1e-09 Ha) are in" in done.stdout
    assert "structure 1: the molecule has an odd number of electrons" in done.stdout
    assert "b3lyp5" in done.stdout  # the trap is told
    file = EnergyFile(output)
    assert (len(file.frames), file.frames[0].forces) == (1, None)
    assert list(json.loads(output.with_name("out.extxyz.failures.json").read_text())) == ["1"]
    assert "is there already" in mlff("data", "energies", structures, *LEVEL, "-o", output).stderr


def test_ions_from_hdf5_keep_their_charge(tmp_path: Path, mlff) -> None:
    pytest.importorskip("pyscf")
    ion = Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"charge": -1})
    write(tmp_path / "in.extxyz", ion)
    assert mlff("data", "convert", "in.extxyz", "in.h5", cwd=tmp_path).returncode == 0
    done = mlff("data", "energies", "in.h5", "--method", "hf", "--basis", "sto-3g", "-o", "out.extxyz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert EnergyFile(tmp_path / "out.extxyz").frames[0].charge == -1


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"--method": "b3lpy"}, "did you mean 'b3lyp'?"),
        ({"--basis": "sto3"}, "unknown basis 'sto3'"),
        ({"-o": "out.h5"}, "written to extended xyz; give a name that ends in .extxyz"),
    ],
)
def test_wrong_input_is_one_error_before_anything_is_written(structures: Path, mlff, other: dict, message: str) -> None:
    pytest.importorskip("pyscf")
    given = {"-o": "out.extxyz", **dict(zip(LEVEL[::2], LEVEL[1::2], strict=True))} | other
    words = [word for pair in given.items() for word in pair]
    done = mlff("data", "energies", structures.name, *words, cwd=structures.parent)
    assert (done.returncode, done.stderr.startswith("mlff: error: ")) == (1, True)
    assert message in done.stderr
    assert [each.name for each in structures.parent.iterdir()] == ["in.extxyz"]


def test_a_killed_run_goes_on(structures: Path, child) -> None:
    from functools import partial

    from mlff_calc.datasets.labelling import journal_of, label_structures
    from mlff_calc.electronic.scf.energy_labels import EnergyLabels
    from mlff_calc.electronic.scf.energy_level import EnergyLevel

    molecules = [molecule("H2O"), molecule("HF"), molecule("H2")]
    kind = EnergyLabels(EnergyLevel.of("hf", "sto-3g"))
    target, reached = structures.with_name("a.extxyz"), structures.with_name("reached")

    def stopped(done: int, failed: int, total: int) -> None:
        if done == 2:
            reached.touch()
            time.sleep(60)

    process = child(partial(label_structures, molecules, kind, target, on_done=stopped))
    while not reached.exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert journal_of(target).exists()
    summary = label_structures(molecules, kind, target, resume=True)
    assert (summary.labelled, summary.computed) == (3, 1)
