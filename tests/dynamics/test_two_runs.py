"""Two runs in one folder, and folders that change under a run: no frame is lost, one of two says why it did not start."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read

from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions
from mlff_calc.errors import MLFFError, SimulationError
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
    start(folder, 10, overwrite=True).run()  # as many steps and bytes as before
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


def test_a_run_may_go_on_after_itself(folder):
    run = MDRun.resume(folder, EMT(), steps=12)
    run.run()
    assert run.run().completed
    assert steps_in(folder) == list(range(13))


def test_the_lock_says_who_holds_it(tmp_path):
    holder = rf"process {os.getpid()} on .*, since \d{{4}}-"
    with folder_lock(tmp_path), pytest.raises(SimulationError, match=holder), folder_lock(tmp_path):
        pass


class _Meddler:
    """Does something to the folder at one step."""

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


def test_a_moved_folder_is_noticed_and_goes_on_there(folder):
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


def test_a_deleted_lock_lets_no_two_runs_write(folder):
    with pytest.raises(SimulationError, match="rescued1"):
        MDRun.resume(folder, EMT(), steps=20).run(_Meddler((folder / LOCK).unlink))
    assert steps_in(folder.with_name("run.rescued1")) == list(range(15))


_RACER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_two_runs import race_once
race_once(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
"""


def race_once(folder: Path, how: str, steps: int) -> None:
    """One of two runs; waits for a line on standard input, so that both go at once."""
    try:
        sys.stdin.readline()
        run = MDRun.resume(folder, EMT(), steps=steps) if how == "resume" else start(
            folder, steps, overwrite=how == "overwrite"
        )  # fmt: skip
        run.run()
        print("done")
    except MLFFError as error:
        print("refused:", error)


def _race(tmp_path: Path, seed: int) -> list[str]:
    """A race of two runs in one folder; returns what they said, after looking at what is left."""
    draw = random.Random(seed)
    folder = tmp_path / f"race{seed}"
    there = draw.random() < 0.7
    if there:
        start(folder, 10).run()
    ways = [draw.choice(["start", "resume", "overwrite"]) for _ in range(2)]
    steps = [draw.randrange(20, 40) for _ in range(2)]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, str(Path(__file__).parent), str(folder), way, str(n)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for way, n in zip(ways, steps, strict=True)
    ]  # fmt: skip
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=120)[0].strip() for racer in racers]
    assert all(text == "done" or text.startswith("refused: ") for text in said), said
    done = [n for n, text in zip(steps, said, strict=True) if text == "done"]
    if done:
        left = steps_in(folder)
        assert left == list(range(len(left)))
        assert left[-1] in done
    elif there:
        assert steps_in(folder) == list(range(11))
    return said


def test_races(tmp_path):
    for seed in range(3):
        _race(tmp_path, seed)


@pytest.mark.slow
def test_a_hundred_races(tmp_path):
    said = [text for seed in range(100) for text in _race(tmp_path, seed)]
    assert sum(text == "done" for text in said) >= 50
    assert sum("another process is running" in text or "another run has written" in text for text in said) >= 10
