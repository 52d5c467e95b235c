"""Two runs in one folder, and folders that change during a run; races of two processes are in tests/races."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read

from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.locks import LOCK, folder_lock

EVERY = {"traj_interval": 1, "log_interval": 1}
NVE = EnsembleOptions(ensemble="nve", timestep_fs=1.0)


def copper(n: int = 1):
    atoms = bulk("Cu", cubic=True) * (1, 1, n)
    atoms.calc = EMT()
    return atoms


def start(folder: Path, steps: int, *, n: int = 1, overwrite: bool = False) -> MDRun:
    return MDRun.start(copper(n), folder, NVE, RunOptions(steps=steps, **EVERY), overwrite=overwrite)


def steps_in(folder: Path) -> list[int]:
    return [frame.info["step"] for frame in read(folder / "trajectory.traj", ":")]


@pytest.fixture
def folder(tmp_path) -> Path:
    start(tmp_path / "run", 10).run()
    return tmp_path / "run"


def test_a_resume_notices_that_another_went_on(folder):
    late = MDRun.resume(folder, EMT(), steps=15)
    MDRun.resume(folder, EMT(), steps=30).run()
    with pytest.raises(SimulationError, match="another run has written"):
        late.run()
    assert steps_in(folder) == list(range(31))


def test_a_resume_notices_a_run_that_replaced_it(folder):
    late = MDRun.resume(folder, EMT(), steps=15)
    start(folder, 10, overwrite=True).run()  # with as many steps and bytes as before
    before = (folder / "state.json").read_bytes()
    with pytest.raises(SimulationError, match="another run has written"):
        late.run()
    assert (folder / "state.json").read_bytes() == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_start_notices_a_run_that_came_in_between(tmp_path, overwrite):
    late = start(tmp_path / "run", 3, n=2, overwrite=overwrite)
    start(tmp_path / "run", 10).run()
    with pytest.raises(SimulationError, match="another run has written"):
        late.run()
    assert not late.begun
    assert steps_in(tmp_path / "run") == list(range(11))
    assert len(read(tmp_path / "run/trajectory.traj")) == 4


def test_the_same_object_may_continue_its_run(folder):
    run = MDRun.resume(folder, EMT(), steps=12)
    run.run()
    assert run.run().completed
    assert steps_in(folder) == list(range(13))


def test_the_error_of_a_lock_names_its_holder(tmp_path):
    holder = rf"process {os.getpid()} on .*, since \d{{4}}-"
    with folder_lock(tmp_path), pytest.raises(SimulationError, match=holder), folder_lock(tmp_path):
        pass


class _Meddler:
    """Function that changes the folder at one step."""

    def __init__(self, act) -> None:
        self.act = act

    def __call__(self, row) -> None:
        if row.step == 14:
            self.act()


@pytest.mark.parametrize("name", ["trajectory.traj", "log.csv"])
def test_a_deleted_file_is_written_again(folder, name):
    run = MDRun.resume(folder, EMT(), steps=20)
    with pytest.raises(SimulationError, match=rf"{name} in .* was deleted or replaced"):
        run.run(_Meddler((folder / name).unlink))
    assert steps_in(folder) == list(range(15))
    MDRun.resume(folder, EMT(), steps=20).run()
    assert steps_in(folder) == list(range(21))


def test_a_moved_folder_is_noticed_and_resumed_there(folder):
    moved = folder.with_name("moved")
    with pytest.raises(SimulationError, match=rf"was moved during the run.*--output {moved}"):
        MDRun.resume(folder, EMT(), steps=20).run(_Meddler(lambda: folder.rename(moved)))
    assert not folder.exists()
    MDRun.resume(moved, EMT(), steps=20).run()
    assert steps_in(moved) == list(range(21))


def test_a_replaced_folder_is_left_alone(folder):
    def replace() -> None:
        shutil.rmtree(folder)
        start(folder, 2, n=2).run()

    with pytest.raises(SimulationError, match=r"deleted or replaced.*rescued1"):
        MDRun.resume(folder, EMT(), steps=20).run(_Meddler(replace))
    assert steps_in(folder) == [0, 1, 2]
    assert steps_in(folder.with_name("run.rescued1")) == list(range(15))


def test_a_deleted_lock_is_created_again_and_works(folder, caplog):
    held = []

    def meddle(row) -> None:
        if row.step == 14:
            (folder / LOCK).unlink()
        if row.step == 16:
            with pytest.raises(SimulationError, match="another process") as refusal, folder_lock(folder):
                pass
            held.append(refusal.value)

    assert MDRun.resume(folder, EMT(), steps=20).run(meddle).completed
    assert len(held) == 1
    assert steps_in(folder) == list(range(21))
    assert [entry.name for entry in folder.parent.iterdir()] == ["run"]
    assert "removed during the run" in caplog.text


def test_a_lock_of_another_run_in_the_place_of_a_deleted_one(folder):
    def meet() -> None:
        (folder / LOCK).unlink()
        with folder_lock(folder):
            pass

    with pytest.raises(SimulationError, match="rescued1"):
        MDRun.resume(folder, EMT(), steps=20).run(_Meddler(meet))
    assert steps_in(folder.with_name("run.rescued1")) == list(range(15))


def test_files_without_a_state_belong_to_a_run_at_work(tmp_path):
    from mlff_calc.dynamics.folder import refuse_other_run
    from mlff_calc.locks import folder_lock

    (tmp_path / "trajectory.traj").write_bytes(b"begun")
    with folder_lock(tmp_path), pytest.raises(SimulationError, match="is running in"):
        refuse_other_run(tmp_path, overwrite=False)
    with pytest.raises(OptionError, match="no saved state to go on from"):
        refuse_other_run(tmp_path, overwrite=False)
