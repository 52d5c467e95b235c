"""Labels of many structures: the same with any number of processes, after any kill, and failures with their reasons.

Starting two processes takes 3 s of processor time, which only `test_labels_do_not_depend_on_the_number_of_workers` does.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

pytest.importorskip("pyscf")

from mlff_calc.datasets.labelling import Outcome, journal_of, label_structures, outcomes
from mlff_calc.datasets.matrix_files import MatrixFile
from mlff_calc.electronic.scf.labels import label
from mlff_calc.electronic.scf.matrix_labels import MatrixLabels
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import DatasetError, OptionError, SimulationError

pytestmark = pytest.mark.electronic
SETTINGS = SCFSettings("hf", "sto-3g")
LABELS = MatrixLabels(SETTINGS)


def waters(count: int) -> list[Atoms]:
    found = []
    for seed in range(count):
        atoms = molecule("H2O")
        atoms.rattle(0.03, seed=seed)
        found.append(atoms)
    return found


@pytest.fixture(scope="module")
def structures() -> list[Atoms]:
    radical, ion = Atoms("OH", [[0, 0, 0], [0, 0, 1]]), Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"charge": -1})
    return [*waters(2), radical, ion]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, structures: list[Atoms]) -> Path:
    path = tmp_path_factory.mktemp("labels") / "one.h5"
    seen: list[tuple[int, int, int]] = []
    summary = label_structures(structures, LABELS, path, on_done=lambda *counts: seen.append(counts))
    assert (summary.labelled, summary.computed) == (3, 3)
    assert seen == [(1, 0, 4), (2, 0, 4), (3, 1, 4), (4, 1, 4)]
    return path


def test_the_file_holds_what_a_label_is(path: Path, structures: list[Atoms]) -> None:
    file = MatrixFile(path)
    assert SCFSettings.from_dict(file.settings) == SETTINGS
    assert [(frame.source, frame.charge) for frame in file] == [(0, 0), (1, 0), (3, -1)]
    ((number, reason),) = file.failures
    assert number == 2
    assert "odd number of electrons" in reason
    one = label(structures[1], SETTINGS)
    for name in ("energy", "forces", "fock", "overlap", "initial", "cycles"):
        np.testing.assert_allclose(getattr(file[1], name), getattr(one, name), atol=1e-12)
    assert sorted(each.name for each in path.parent.iterdir()) == ["one.h5"]  # no journal and no lock


def test_labels_do_not_depend_on_the_number_of_workers(path: Path, structures: list[Atoms], tmp_path: Path) -> None:
    label_structures(structures, LABELS, tmp_path / "two.h5", workers=2)
    assert (tmp_path / "two.h5").read_bytes() == path.read_bytes()


def test_after_a_kill_nothing_is_lost_and_nothing_is_computed_twice(tmp_path: Path, child) -> None:
    target, structures = tmp_path / "a.h5", waters(4)
    label_structures(structures, LABELS, tmp_path / "whole.h5")

    def stopped(done: int, failed: int, total: int) -> None:
        if done == 2:
            (tmp_path / "reached").touch()
            time.sleep(60)

    process = child(partial(label_structures, structures, LABELS, target, on_done=stopped))
    while not (tmp_path / "reached").exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    with journal_of(target).open("ab") as file:
        file.write(b"\x10\0\0\0\0")  # a record that was being written
    with pytest.raises(OptionError, match=r"interrupted run; go on with resume"):
        label_structures(structures, LABELS, target)
    with pytest.raises(DatasetError, match=r"begun with settings .*'sto-3g'.*6-31g"):
        label_structures(structures, MatrixLabels(SCFSettings("hf", "6-31g")), target, resume=True)
    with pytest.raises(DatasetError, match="other structures: number 0 differs"):
        label_structures(structures[::-1], LABELS, target, resume=True)
    summary = label_structures(structures, LABELS, target, resume=True)
    assert (summary.labelled, summary.computed) == (4, 2)
    assert target.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert not journal_of(target).exists()


def test_a_whole_file_is_not_made_again(path: Path, structures: list[Atoms]) -> None:
    before = path.stat().st_mtime_ns
    assert label_structures(structures, LABELS, path, resume=True).computed == 0
    assert path.stat().st_mtime_ns == before
    with pytest.raises(DatasetError, match="holds other structures"):
        label_structures(structures[:2], LABELS, path, resume=True)
    with pytest.raises(DatasetError, match="another level: xc hf and pbe"):
        label_structures(structures, MatrixLabels(SCFSettings("pbe", "sto-3g")), path, resume=True)


def test_ctrl_c_says_what_is_kept(tmp_path: Path) -> None:
    def stop(done: int, failed: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"1 of 3 structures are done .*--resume"):
        label_structures(waters(3), LABELS, tmp_path / "a.h5", on_done=stop)
    assert label_structures(waters(3), LABELS, tmp_path / "a.h5", overwrite=True).computed == 3


def test_unconverged_labels_are_failures(tmp_path: Path) -> None:
    unconverged = SCFSettings("hf", "sto-3g", max_cycle=1)
    with pytest.raises(SimulationError, match=r"none of 1 structures has a label; structure 0: .*did not converge"):
        label_structures(waters(1), MatrixLabels(unconverged), tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": "a.npz"}, OptionError, "ends in .h5"),
        ({"path": "absent/a.h5"}, OptionError, "folder absent is not there"),
        ({"path": "."}, OptionError, "ends in .h5"),
        ({"workers": 0}, OptionError, "number of workers is 0"),
        ({"structures": []}, OptionError, "no structures"),
        ({"structures": [Atoms("I2")], "kind": MatrixLabels(SCFSettings("hf", "def2-svp"))}, OptionError, "potential for I"),
        ({"kind": MatrixLabels(SCFSettings("nothing", "sto-3g"))}, OptionError, "unknown functional"),
        ({"resume": True, "overwrite": True}, OptionError, "one of them"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        label_structures(**{"structures": waters(1), "kind": LABELS, "path": "a.h5"} | options)
    assert not list(tmp_path.iterdir())


def test_files_that_are_there_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("mine")
    with pytest.raises(OptionError, match="is there already"):
        label_structures(waters(1), LABELS, tmp_path / "a.h5")
    with pytest.raises(DatasetError, match="cannot be read as HDF5"):
        label_structures(waters(1), LABELS, tmp_path / "a.h5", resume=True)
    assert (tmp_path / "a.h5").read_text() == "mine"


WORK = """
import os

def fails(atoms):
    if len(atoms) == 2:
        os._exit(3)
    return [7, 8][len(atoms)]
"""


def test_a_process_that_dies_costs_one_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes import no PySCF, and take half a second each to start."""
    (tmp_path / "work_that_fails.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    work = importlib.import_module("work_that_fails").fails
    items = [(0, Atoms("H")), (1, Atoms("H2")), (2, Atoms("H3")), (3, Atoms())]
    found = {outcome.number: outcome for outcome in outcomes(work, items, workers=2)}
    assert found[0] == Outcome(0, 8)
    assert found[3] == Outcome(3, 7)
    assert found[1].problem is not None
    assert "exit code 3" in found[1].problem
    assert found[2].problem == "IndexError: list index out of range"
    (tmp_path / "work_that_fails.py").write_text("raise SystemExit(5)")
    with pytest.raises(OptionError, match=r"processes cannot be started \(exit code 5\).*__main__"):
        list(outcomes(work, items[:1] * 2, workers=2))
