"""Teachers: names, refusals, and processes that hang, die, print or loop."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from mlff_calc.distillation import serve
from mlff_calc.distillation.answers import Answer
from mlff_calc.distillation.processes import TeacherProcesses
from mlff_calc.distillation.teachers import Teacher, teacher_of
from mlff_calc.errors import OptionError

from .conftest import tetrahedron

WANT = ["energy", "forces"]
Toy = Callable[..., Teacher]


def _answers(teacher: Teacher, n: int = 4, **options: object) -> list[Answer]:
    frames = []
    random = np.random.default_rng(0)
    for number in range(n):
        atoms = tetrahedron()
        atoms.positions += random.normal(scale=0.05, size=(4, 3))
        frames.append((number, atoms))
    with TeacherProcesses(teacher, **options) as processes:
        return sorted(processes.answers(frames, WANT), key=lambda answer: answer.number)


def test_labels_are_those_of_the_calculator_to_the_last_bit(toy: Toy) -> None:
    from .toy_teacher import Morse

    atoms = tetrahedron(2.7)
    with TeacherProcesses(toy()) as processes:
        (answer,) = processes.answers([(3, atoms)], WANT)
        assert not processes.loads_torch
    atoms.calc = Morse()
    assert answer.number == 3
    assert answer.label["energy"] == atoms.get_potential_energy()
    assert np.array_equal(answer.label["forces"], atoms.get_forces())


def test_what_a_teacher_prints_does_no_harm(toy: Toy) -> None:
    assert [answer.problem for answer in _answers(toy(fault="prints"), workers=2)] == [None] * 4


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("raises", "RuntimeError: no convergence after 9 cycles"),
        ("exits", "SystemExit: licence expired"),
        ("dies", "the teacher's process ended (exit code 9"),
        ("hangs", "no answer within 1 s"),
        ("none", "the calculator gave nothing"),
    ],
)
def test_a_structure_that_fails_is_told_with_its_reason(toy: Toy, fault: str, expected: str) -> None:
    (answer,) = _answers(toy(fault=fault), 1, timeout=1.0)
    assert answer.label is None
    assert expected in answer.problem
    assert answer.attempts == 2


def test_failures_of_some_leave_the_others_alone(toy: Toy) -> None:
    answers = _answers(toy(fault="dies", share=0.4), 8)
    assert [answer.number for answer in answers] == list(range(8))
    failed = [answer.number for answer in answers if answer.label is None]
    assert 0 < len(failed) < 8


def test_a_structure_is_tried_again_with_the_next_options(toys: Path) -> None:
    teacher = teacher_of("toy_teacher:calculator", {"fault": "raises"})
    again = Teacher(teacher.name, teacher.factory, teacher.arguments, retries=({"fault": ""},))
    assert [(answer.problem, answer.attempts) for answer in _answers(again, 2)] == [(None, 2)] * 2


@pytest.mark.parametrize("fault", ["nan", "shape"])
def test_what_is_no_label_is_tried_again(toys: Path, fault: str) -> None:
    teacher = teacher_of("toy_teacher:calculator", {"fault": fault})
    again = Teacher(teacher.name, teacher.factory, teacher.arguments, retries=({"fault": ""},))
    (answer,) = _answers(again, 1)
    assert answer.problem is None
    assert answer.attempts == 2


def test_a_calculator_that_did_not_converge_has_failed(toy: Toy) -> None:
    (answer,) = _answers(toy(converged=False), 1)
    assert "did not converge" in answer.problem


def test_options_that_the_function_does_not_take_are_told(toy: Toy) -> None:
    (answer,) = _answers(toy(accuracy=0.1), 1)
    assert "unexpected keyword argument 'accuracy'" in answer.problem


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gfn2-xbt", "did you mean 'gfn2-xtb'?"),
        ("mace-mp-0", "brings no weights"),
        ("orb", "brings no weights"),
        ("no_module:", "write module:function"),
    ],
)
def test_names_that_are_no_teachers(name: str, expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        teacher_of(name)


def test_an_environment_must_be_an_interpreter(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is no interpreter"):
        teacher_of("emt", environment=str(tmp_path))


def test_a_teacher_that_cannot_be_loaded_says_why(toys: Path) -> None:
    with pytest.raises(OptionError, match=r"No module named 'nowhere'; give module:function of a file"):
        TeacherProcesses(teacher_of("nowhere:calculator"))
    with pytest.raises(OptionError, match=r"cannot be loaded .*chgnet.*install chgnet, or name the Python that has it"):
        TeacherProcesses(teacher_of("chgnet"))


def test_another_interpreter_is_taken(toys: Path) -> None:
    script = toys / "other" / "bin" / "python"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\necho used >> "{toys}/used"\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    assert _answers(teacher_of("toy_teacher:calculator", environment=str(toys / "other")), 1)[0].problem is None
    assert (toys / "used").read_text() == "used\n"


def test_the_teachers_side_needs_neither_this_package_nor_torch() -> None:
    code = (
        "import sys, runpy; from pathlib import Path; from importlib.util import find_spec;"
        "import mlff_calc.distillation.serve;"
        "print([name for name in ('torch', 'pydantic', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    text = Path(serve.__file__).read_text()
    assert "mlff_calc" not in text.replace("this package", "")


def test_what_is_no_python_is_told(toys: Path) -> None:
    (toys / "text").write_text("hello")
    (toys / "text").chmod(0o755)
    (toys / "says").write_text("#!/bin/sh\necho hello\n")
    (toys / "says").chmod(0o755)
    for name, expected in (("text", "cannot be started by .*give the path of a python"), ("says", "it said 'hello'")):
        with pytest.raises(OptionError, match=expected):
            TeacherProcesses(teacher_of("toy_teacher:calculator", environment=str(toys / name)))


def test_programs_of_a_teacher_read_no_requests(toy: Toy) -> None:
    assert [answer.problem for answer in _answers(toy(fault="reads"), timeout=20.0)] == [None] * 4


def test_programs_of_a_teacher_that_hangs_end_with_it(toy: Toy, toys: Path) -> None:
    (answer,) = _answers(toy(fault="starts", log=str(toys / "pid")), 1, timeout=2.0)
    assert "no answer within 2 s" in answer.problem
    process = Path("/proc") / (toys / "pid").read_text()
    _until(lambda: not process.exists() or "Z" in (process / "stat").read_text().split()[2])


def test_threads_share_no_calculator(toys: Path) -> None:
    setup = {"factory": "toy_teacher:calculator", "path": [str(toys)], "kept": True}
    together = threading.Barrier(2)

    def found() -> object:
        together.wait(20.0)
        first = serve._calculator(setup, {}, None)
        assert serve._calculator(setup, {}, None) is first
        return first

    with ThreadPoolExecutor(2) as executor:
        one, other = (future.result() for future in [executor.submit(found) for _ in range(2)])
    assert one is not other


def test_a_teacher_that_hangs_ends_with_the_process_that_asked(toys: Path, child: Callable[..., object]) -> None:
    teacher = teacher_of("toy_teacher:calculator", {"fault": "hangs", "log": str(toys / "pid")})
    asking = child(lambda: _answers(teacher, 1))
    _until(lambda: (toys / "pid").exists() and (toys / "pid").read_text().isdigit())
    process = Path("/proc") / (toys / "pid").read_text()
    assert process.exists()
    asking.kill()
    _until(lambda: not process.exists() or "Z" in (process / "stat").read_text().split()[2])


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_our_own_potentials_teach() -> None:
    teacher = teacher_of("ethanol")
    assert teacher.identity["weights"]
    assert teacher.key != teacher_of("ethanol_deq").key


def test_gfn2_gives_the_same_bits_in_two_runs() -> None:
    pytest.importorskip("tblite")
    frames = []
    random = np.random.default_rng(1)
    for number in range(20):
        atoms = molecule("CH3CH2OH")
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        frames.append((number, atoms))
    found = []
    for workers in (1, 2):
        with TeacherProcesses(teacher_of("gfn2-xtb"), workers) as processes:
            assert not processes.loads_torch
            found.append({answer.number: answer.label for answer in processes.answers(frames, WANT)})
    assert found[0] == found[1]
    assert len(found[0]) == 20


def test_the_charge_reaches_tblite() -> None:
    pytest.importorskip("tblite")
    atoms = molecule("NH3")
    atoms.info["charge"] = 0
    ion = molecule("CH3")
    ion.info["charge"] = 1
    with TeacherProcesses(teacher_of("gfn2-xtb")) as processes:
        neutral, charged = (next(processes.answers([(0, one)], WANT)).label["energy"] for one in (molecule("CH3"), ion))
    assert charged - neutral > 5.0
