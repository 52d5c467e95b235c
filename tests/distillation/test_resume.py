"""A run that is killed in every phase and goes on: the same labels, byte for byte, and none made twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.distillation import Distillation, teacher_of
from mlff_calc.distillation.labels import read_labels, write_frames
from mlff_calc.distillation.processes import TeacherProcesses
from mlff_calc.distillation.state import State
from mlff_calc.distillation.teaching import is_same_teacher
from mlff_calc.errors import DatasetError, OptionError, SimulationError

from .conftest import copy_toys, small, tetrahedron
from .toy_teacher import calculator


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _killed_at(place: str, call: int) -> None:
    """Let this process die at the nth call of a function."""
    module, _, name = place.rpartition(".")
    owner: Any = __import__(module.partition(":")[0], fromlist=["x"])
    for part in filter(None, module.partition(":")[2].split(".")):
        owner = getattr(owner, part)
    function, calls = getattr(owner, name), [0]

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            _die()
        return function(*arguments, **options)

    setattr(owner, name, counted)


# Where a run dies, one after another: each of these goes on where the one before has died.
DEATHS = (
    ("mlff_calc.distillation.loop:Distillation._begin", 1),
    ("mlff_calc.distillation.state:State.save", 1),
    ("mlff_calc.distillation.rounds.label_round", 1),
    ("mlff_calc.datasets.labelling.journal:LabelJournal.add", 7),
    ("mlff_calc.distillation.labels:RoundLabels.write", 1),
    ("mlff_calc.training.module:TrainingModule.training_step", 4),
    ("mlff_calc.sampling.langevin:Langevin.run", 2),
    ("mlff_calc.distillation.state:State.save", 2),
    ("mlff_calc.datasets.labelling.journal:LabelJournal.add", 3),
    ("mlff_calc.training.module:TrainingModule.training_step", 9),
    ("mlff_calc.distillation.report.document", 1),
)


def _digest(atoms: Atoms) -> str:
    return hashlib.sha256(atoms.positions.round(6).tobytes()).hexdigest()


def _labels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "labels").glob("*.extxyz"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    copy_toys(folder)
    with contextlib.chdir(folder):
        Distillation(small(), folder / "run").run()
    return folder / "run"


@pytest.mark.parametrize(
    "deaths", [pytest.param((6, 7, 9), id="some"), pytest.param(range(len(DEATHS)), id="every", marks=pytest.mark.slow)]
)
def test_a_run_that_is_killed_gives_the_same_labels(
    toys: Path, whole: Path, child: Callable[..., Any], deaths: Sequence[int]
) -> None:
    """A process for each death: 7 seconds for some, 20 for one in every phase."""
    recipe = small(teacher={"options": {"log": str(toys / "calls")}})
    folder = toys / "killed"
    for place, call in (DEATHS[k] for k in deaths):
        begun = (folder / "state.json").exists()

        def run(place: str = place, call: int = call, begun: bool = begun) -> None:
            _killed_at(place, call)
            Distillation(None if begun else recipe, folder, resume=begun, overwrite=not begun and folder.exists()).run()

        died = child(run)
        assert died.wait() == -signal.SIGKILL, (place, call, died.stderr)
    Distillation(None, folder, resume=True).run()
    killed, expected = _labels(folder), _labels(whole)
    assert list(killed) == list(expected)
    for name, content in expected.items():
        assert _without_digests(content) == _without_digests(killed[name]), name
    frames = [atoms for name in killed for atoms in read_labels(folder / "labels" / name) if "todo" not in name]
    assert len({atoms.info["key"] for atoms in frames}) == len(frames)
    calls = Counter((toys / "calls").read_text().split())
    repeated = {_digest(atoms) for atoms in read_labels(folder / "labels" / "round-000.extxyz")[:5]}
    twice = [digest for digest, count in calls.items() if count > 1 and digest not in repeated]
    assert len(twice) <= 3 + 2  # the first labels of a run that died before its record was there, and two at a death


def _without_digests(content: bytes) -> list[bytes]:
    """Text without the digests of the teacher's options, to which the file of calls belongs."""
    return [word for word in content.split(b" ") if not word.startswith((b"options=", b"key="))]


def test_a_teacher_that_has_changed_is_refused(toys: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(whole, toys / "run")
    monkeypatch.chdir(whole.parent)
    other = teacher_of("toy_teacher:calculator", {"shift": 1.0})
    with pytest.raises(DatasetError, match=r"toy_teacher:calculator\(\), which is now .*shift=1.0"):
        Distillation(_without_teacher(), toys / "run", teacher=other, resume=True, labels=60).run()
    with pytest.raises(DatasetError, match=r"stop.target was 0.03, is 0.5"):
        Distillation(small(stop={"target": 0.5}), toys / "run", resume=True, labels=60).run()
    monkeypatch.chdir(toys)
    text = (toys / "toy_teacher.py").read_text().replace("DEPTH, WIDTH, LENGTH = 0.6", "DEPTH, WIDTH, LENGTH = 0.61")
    (toys / "toy_teacher.py").write_text(text)
    with pytest.raises(SimulationError, match="has changed: frame 0 of"):
        Distillation(None, toys / "run", resume=True, labels=60).run()


def _without_teacher() -> dict[str, Any]:
    recipe = small()
    recipe["teacher"] = {}
    return recipe


@pytest.mark.slow
def test_a_run_that_ended_goes_on_with_more(toys: Path, whole: Path) -> None:
    shutil.copytree(whole, toys / "run")
    before = _labels(toys / "run")
    with pytest.raises(OptionError, match="is finished; give minutes or labels"):
        Distillation(None, toys / "run", resume=True).run()
    with pytest.raises(OptionError, match="holds a distillation already; go on with --resume"):
        Distillation(small(), toys / "run").run()
    second = Distillation(None, toys / "run", resume=True, labels=70).run()
    after = _labels(toys / "run")
    frames = [atoms for name in after for atoms in read_labels(toys / "run" / "labels" / name) if "todo" not in name]
    assert len({_digest(atoms) for atoms in frames}) == len(frames) == second.labels
    assert len(before) == 4
    assert all(atoms.info["made"].startswith("trajectory") for atoms in frames if atoms.info["round"] == 2)
    assert sum(atoms.info["round"] == 2 for atoms in frames) > 5
    assert {name: after[name] for name in before} == before
    assert State.read(toys / "run").plain["finished"]
    third = Distillation(None, toys / "run", resume=True, minutes=5.0).run()
    assert third.labels > second.labels
    plain = State.read(toys / "run").plain
    assert plain["minutes"] > 5.0
    assert 60.0 * plain["minutes"] > plain["limit"] > 180.0


def test_a_folder_of_something_else_is_left_alone(toys: Path) -> None:
    (toys / "thesis").mkdir()
    (toys / "thesis" / "chapter.tex").write_text("42")
    with pytest.raises(OptionError, match="is not empty and holds no distillation"):
        Distillation(small(), toys / "thesis").run()
    with pytest.raises(DatasetError, match="holds no distillation to go on with"):
        Distillation(None, toys / "thesis", resume=True)
    with pytest.raises(OptionError, match="give one of them"):
        Distillation(small(), toys / "run", resume=True, overwrite=True)


@pytest.mark.parametrize("name", ["labels", "potential"])
def test_labels_and_potentials_of_something_else_are_left_alone(toys: Path, name: str) -> None:
    (toys / "mine" / name).mkdir(parents=True)
    (toys / "mine" / name / "work.extxyz").write_text("42")
    with pytest.raises(OptionError, match=f"{name} is there, and no record of a distillation beside it"):
        Distillation(small(), toys / "mine").run()
    assert (toys / "mine" / name / "work.extxyz").is_file()


def test_budgets_that_a_run_cannot_go_on_with_are_refused(toys: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(whole, toys / "run")
    monkeypatch.chdir(whole.parent)
    for minutes in (-5.0, float("nan")):
        with pytest.raises(OptionError, match="give a positive number"):
            Distillation(None, toys / "run", resume=True, minutes=minutes)
    made = State.read(toys / "run").rounds[-1]["labels"]
    with pytest.raises(OptionError, match=rf"labels is {made}, and {made} are there already"):
        Distillation(None, toys / "run", resume=True, labels=made).run()
    with pytest.raises(DatasetError, match=r"budget.rounds was 1, is 3"):
        Distillation(small(budget={"rounds": 3}), toys / "run", resume=True, labels=90).run()
    state = State.read(toys / "run")
    Distillation(None, toys / "run", resume=True, labels=500)._extend(state)  # one round of all that are wanted
    assert state.plain["plan"]["batch"] + state.plain["plan"]["audit"] == 500 - made
    shutil.rmtree(toys / "run")
    shutil.copytree(whole, toys / "run")
    state = State.read(toys / "run")  # as of a run of three seconds
    state.plain |= {"minutes": 0.05, "limit": 0.03}
    state.save()
    with pytest.raises(OptionError, match=r"the 0.05 minutes of the run in .* are used.*give minutes too"):
        Distillation(None, toys / "run", resume=True, labels=90).run()
    assert State.read(toys / "run").plain["finished"]


def test_a_teacher_whose_energy_is_an_array_is_the_same(toys: Path) -> None:
    teacher = teacher_of("toy_teacher:calculator", {"fault": "one"})
    state = State(toys / "state.json", {"teacher": {"name": teacher.name, "options": teacher.key, "version": "1"}})
    atoms = tetrahedron(2.6)
    atoms.calc = calculator()
    atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    write_frames(toys / "labels.extxyz", [atoms])
    with TeacherProcesses(teacher) as processes:
        processes.version = "1"
        is_same_teacher(state, teacher, processes, toys / "labels.extxyz")


def test_a_damaged_record_is_told(toys: Path) -> None:
    (toys / "run").mkdir()
    (toys / "run" / "state.json").write_text('{"format": 1, "rounds"')
    with pytest.raises(DatasetError, match=r"state.json is damaged"):
        Distillation(small(), toys / "run", resume=True).run()


def test_frames_that_are_missing_are_told(toys: Path, whole: Path) -> None:
    shutil.copytree(whole, toys / "run")
    state = State.read(toys / "run")
    state.rounds.pop()
    state.plain |= {"stopped": None, "finished": False}
    state.save()
    for path in (toys / "run" / "labels").glob("round-001*"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"round-001.todo.extxyz is missing"):
        Distillation(None, toys / "run", resume=True).run()


def test_two_runs_in_one_folder_are_refused(toys: Path, child: Callable[..., Any]) -> None:
    slow = small(explore={"steps": 100_000})
    folder = toys / "run"
    running = child(lambda: Distillation(slow, folder).run())
    until = time.monotonic() + 60.0
    while not list(folder.glob("labels/round-000.extxyz")) and time.monotonic() < until:
        time.sleep(0.05)
    with pytest.raises(SimulationError, match="another process is running in"):
        Distillation(None, folder, resume=True).run()
    running.kill()
