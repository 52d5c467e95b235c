"""Rounds of labels: checks, failures, limits, what is kept, and what is written whatever the order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlff_calc.distillation.answers import Labeller
from mlff_calc.distillation.checks import checked, energies_fit, outliers
from mlff_calc.distillation.executors import ExecutorLabels
from mlff_calc.distillation.labels import RoundLabels, as_in_file, key_of, label_round, read_labels, write_frames
from mlff_calc.distillation.processes import TeacherProcesses
from mlff_calc.distillation.teachers import Teacher, teacher_of
from mlff_calc.errors import OptionError, SimulationError

from .conftest import tetrahedron
from .toy_teacher import calculator

WANT = ["energy", "forces"]
Toy = Callable[..., Teacher]


def _frames(n: int, seed: int = 0) -> list[Atoms]:
    random = np.random.default_rng(seed)
    frames = []
    for number in range(n):
        atoms = tetrahedron()
        atoms.positions += random.normal(scale=0.05, size=(4, 3))
        atoms.info |= {"part": "train", "system": "cu4", "made": f"draw {number}"}
        frames.append(atoms)
    return as_in_file(frames)


def _label(labeller: Labeller, teacher: Teacher, frames: list[Atoms], path: Path, **more: Any) -> RoundLabels:
    told = {"teacher": "toy", "version": "1", "options": teacher.key}
    kind = RoundLabels(labeller, WANT, told, 0, path.parent / "failed.extxyz", **more)
    label_round(frames, kind, path)
    return kind


def test_the_file_does_not_depend_on_the_number_of_processes(toy: Toy, tmp_path: Path) -> None:
    frames, teacher = _frames(12), toy()
    for workers in (1, 3):
        with TeacherProcesses(teacher, workers) as processes:
            _label(processes, teacher, frames, tmp_path / f"{workers}.extxyz")
    one, three = ((tmp_path / f"{workers}.extxyz").read_bytes() for workers in (1, 3))
    assert one == three
    found = read_labels(tmp_path / "1.extxyz")
    assert [atoms.info["made"] for atoms in found] == [f"draw {number}" for number in range(12)]
    assert found[0].info["teacher"] == "toy"
    assert found[0].info["key"] == key_of(frames[0], teacher.key).hex()[:16]
    frames[0].calc = calculator()
    assert found[0].get_potential_energy() == pytest.approx(frames[0].get_potential_energy(), abs=1e-12)


def test_what_was_labelled_before_a_stop_is_not_labelled_again(toy: Toy, tmp_path: Path) -> None:
    frames, path, whole = _frames(12), tmp_path / "a.extxyz", tmp_path / "whole.extxyz"
    log = tmp_path / "calls"
    teacher = toy(log=str(log))

    class Stops(TeacherProcesses):
        def answers(self, structures: Any, want: Any) -> Any:
            for count, answer in enumerate(super().answers(structures, want)):
                if count == 5:
                    raise KeyboardInterrupt
                yield answer

    with Stops(teacher) as processes, pytest.raises(KeyboardInterrupt, match=r"5 of 12 .* go on with --resume"):
        _label(processes, teacher, frames, path)
    assert not path.exists()
    before = log.read_text().split()
    with TeacherProcesses(teacher) as processes:
        _label(processes, teacher, frames, path)
        _label(processes, teacher, frames, whole)
    assert path.read_bytes() == whole.read_bytes()
    calls = log.read_text().split()
    again = calls[len(before) : len(before) + 7]
    assert len(set(before[:5]) | set(again)) == 12


@pytest.mark.parametrize("fault", ["raises", "dies", "nan", "shape", "large", "hangs"])
def test_a_tenth_that_fails_is_left_out_and_told(toy: Toy, tmp_path: Path, fault: str) -> None:
    frames, teacher = _frames(24, seed=3), toy(fault=fault, share=0.08)
    with TeacherProcesses(teacher, 2, timeout=0.5 if fault == "hangs" else 20.0) as processes:
        _label(processes, teacher, frames, tmp_path / "a.extxyz")
    found, failed = read_labels(tmp_path / "a.extxyz"), read_labels(tmp_path / "failed.extxyz")
    assert len(found) + len(failed) == 24
    assert 0 < len(failed) < 5
    words = {"raises": "no convergence", "dies": "process ended", "nan": "forces is not finite", "shape": r"shape \(3, 3\)",
             "large": "more than 100 is not learned", "hangs": "no answer within"}  # fmt: skip
    assert words[fault].replace("\\", "") in failed[0].info["reason"]


def test_too_many_failures_stop_with_the_first_reason_and_its_structure(toy: Toy, tmp_path: Path) -> None:
    frames = _frames(24)
    for share, words in ((0.35, "more than 20 %"), (1.0, "6 labels failed one after another|more than 20 %")):
        teacher = toy(fault="raises", share=share)
        with TeacherProcesses(teacher) as processes, pytest.raises(SimulationError, match=words) as stop:
            _label(processes, teacher, frames, tmp_path / f"{share}.extxyz")
        assert "no convergence after 9 cycles" in str(stop.value)
        assert str(tmp_path / "failed.extxyz") in str(stop.value)
        assert read_labels(tmp_path / "failed.extxyz")
    teacher = toy()  # corrected, the same run goes on
    kept = toy(fault="raises", share=1.0)
    with TeacherProcesses(teacher) as processes:
        _label(processes, kept, frames, tmp_path / "1.0.extxyz")
    assert len(read_labels(tmp_path / "1.0.extxyz")) == 24
    assert not read_labels(tmp_path / "failed.extxyz")  # as all of them have a label now


def test_those_that_failed_before_a_stop_do_not_stop_the_run_that_goes_on(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight of 60 fail, and are all that is left when the run is stopped at its end."""
    frames, teacher, path = _frames(60, seed=3), toy(fault="raises", share=0.12), tmp_path / "a.extxyz"
    write = RoundLabels.write

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with TeacherProcesses(teacher) as processes:
        monkeypatch.setattr(RoundLabels, "write", stopped)
        with pytest.raises(KeyboardInterrupt):
            _label(processes, teacher, frames, path)
        monkeypatch.setattr(RoundLabels, "write", write)
        before = len(read_labels(tmp_path / "failed.extxyz"))
        _label(processes, teacher, frames, path)
    assert len(read_labels(tmp_path / "failed.extxyz")) == before > 5
    assert len(read_labels(path)) == 60 - before


def test_more_than_five_in_a_row_stop(toy: Toy, tmp_path: Path) -> None:
    teacher = toy(fault="raises", share=1.0)
    with TeacherProcesses(teacher) as processes, pytest.raises(SimulationError, match="6 labels failed one after another"):
        _label(processes, teacher, _frames(60), tmp_path / "a.extxyz")


def test_a_first_label_with_wrong_units_ends_everything(toy: Toy, tmp_path: Path) -> None:
    teacher = toy(fault="units")
    with TeacherProcesses(teacher) as processes, pytest.raises(OptionError, match="its units are wrong"):
        _label(processes, teacher, _frames(3), tmp_path / "a.extxyz", is_first=True)


def test_an_energy_that_no_composition_has_is_failed(toy: Toy, tmp_path: Path) -> None:
    frames, teacher = _frames(24, seed=3), toy(fault="energy", share=0.08)
    with TeacherProcesses(teacher) as processes:
        _label(processes, teacher, frames, tmp_path / "a.extxyz")
    failed = read_labels(tmp_path / "failed.extxyz")
    assert 0 < len(failed) < 5
    assert "from what its composition tells" in failed[0].info["reason"]
    assert len(read_labels(tmp_path / "a.extxyz")) == 24 - len(failed)


def test_outliers_are_found_in_mixtures() -> None:
    random = np.random.default_rng(0)
    structures = [Atoms("C" * int(c) + "H" * int(h)) for c, h in random.integers(1, 9, size=(40, 2))]
    energies = [-1000.0 * one.numbers.tolist().count(6) - 15.0 * one.numbers.tolist().count(1) for one in structures]
    assert outliers(structures, energies) == {}
    energies[3] += 1.5 * len(structures[3])  # a hot frame
    assert outliers(structures, energies) == {}
    energies[7] /= 27.2114
    assert set(outliers(structures, energies)) == {7}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ({"forces": [[0.0] * 3] * 4}, "energy is no array|not finite|shape"),
        ({"energy": 1.0, "forces": "many"}, "forces is no array of numbers"),
        ({"energy": [1.0, 2.0], "forces": [[0.0] * 3] * 4}, "energy has the shape"),
        ({"energy": float("inf"), "forces": [[0.0] * 3] * 4}, "energy is not finite"),
    ],
)
def test_what_is_no_label(label: dict[str, Any], expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        checked(tetrahedron(), label, WANT)


def test_a_full_disk_is_one_error_and_loses_nothing(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    frames, teacher, path, wrote = _frames(12), toy(), tmp_path / "a.extxyz", os.pwrite
    count = 0

    def full(descriptor: int, content: bytes, place: int) -> int:
        nonlocal count
        count += 1
        if count > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return wrote(descriptor, content, place)

    monkeypatch.setattr("mlff_calc.datasets.journal.os.pwrite", full)
    with TeacherProcesses(teacher) as processes, pytest.raises(OSError, match="No space left") as stop:
        _label(processes, teacher, frames, path)
    assert "a.extxyz" in str(stop.value.filename)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "calls"
    logged = teacher_of("toy_teacher:calculator", {"log": str(log)})
    with TeacherProcesses(logged) as processes:
        _label(processes, teacher, frames, path)
    assert len(read_labels(path)) == 12
    assert len(log.read_text().split()) < 12


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_executors_give_the_same_file(toys: Path, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    frames, teacher = _frames(8), teacher_of("toy_teacher:calculator")
    options = {"mp_context": multiprocessing.get_context("spawn")} if kind is ProcessPoolExecutor else {}
    with kind(2, **options) as executor:
        _label(ExecutorLabels(teacher, executor, 2), teacher, frames, toys / "executor.extxyz")
    with TeacherProcesses(teacher) as processes:
        _label(processes, teacher, frames, toys / "processes.extxyz")
    assert (toys / "executor.extxyz").read_bytes() == (toys / "processes.extxyz").read_bytes()


class _Loses(ThreadPoolExecutor):
    """Loses its first tasks."""

    lost = 0

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        if self.lost < 3:
            self.lost += 1
            future: Future[Any] = Future()
            future.set_exception(ConnectionError("the worker has gone"))
            return future
        return super().submit(function, *arguments, **options)


def test_a_task_that_an_executor_loses_is_tried_again(toys: Path) -> None:
    teacher = teacher_of("toy_teacher:calculator")
    with _Loses(1) as executor:
        answers = list(ExecutorLabels(teacher, executor, 1).answers(list(enumerate(_frames(6))), WANT))
    assert sorted(answer.number for answer in answers) == list(range(6))
    failed = [answer for answer in answers if answer.label is None]
    assert len(failed) <= 1
    assert all("the executor lost it (ConnectionError: the worker has gone)" in answer.problem for answer in failed)
    assert max(answer.attempts for answer in answers) == 2


def test_an_executor_that_is_shut_down_fails_every_label(toys: Path) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    teacher = teacher_of("toy_teacher:calculator")
    (answer,) = ExecutorLabels(teacher, executor).answers([(0, tetrahedron())], WANT)
    assert "cannot schedule new futures after shutdown" in answer.problem


def test_an_executor_that_hangs_is_given_up(toys: Path) -> None:
    teacher = teacher_of("toy_teacher:calculator", {"fault": "hangs"})

    class Never(ThreadPoolExecutor):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
            return Future()

    (answer,) = ExecutorLabels(teacher, Never(1), timeout=0.05).answers([(0, tetrahedron())], WANT)
    assert "no answer within 0.05 s" in answer.problem


def test_a_function_of_the_structure_is_a_teacher(toys: Path) -> None:
    def teach(atoms: Atoms) -> Any:
        return calculator(shift=float(len(atoms)))

    with ThreadPoolExecutor(1) as executor:
        (answer,) = ExecutorLabels(teacher_of(teach), executor).answers([(0, tetrahedron())], WANT)
    atoms = tetrahedron()
    atoms.calc = calculator()
    assert answer.label["energy"] == atoms.get_potential_energy() + 4.0


@pytest.mark.parametrize(
    ("energy", "forces", "expected"),
    [
        (1 / 27.2114, 1.0, "energies look like Hartree; return eV"),
        (1.0, 1 / 27.2114, "forces look like Hartree/Angstrom"),
        (1.0, 0.529177, "forces look like those of a length in Bohr"),
        (1.0, 1 / 51.4221, "forces look like Hartree/Bohr"),
        (1 / 27.2114, 1 / 51.4221, "or both like atomic units"),
        (1 / 27.2114, 0.529177, "energies look like Hartree and forces like eV/Bohr"),
        (23.06, 1.0, "energies look like kcal/mol"),
        (96.49, 1.0, "energies look like kJ/mol"),
        (-1.0, 1.0, "the sign of the gradient"),
    ],
)
def test_units_that_do_not_fit_are_named(energy: float, forces: float, expected: str) -> None:
    work = 0.5
    with pytest.raises(OptionError, match=expected):
        energies_fit(work * forces, [energy * work, 0.0], "toy")


def test_dask_labels(toys: Path) -> None:
    distributed = pytest.importorskip("dask.distributed")
    frames, teacher = _frames(6), teacher_of("toy_teacher:calculator")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        labels = ExecutorLabels(teacher, client.get_executor(), 2)
        _label(labels, teacher, frames, toys / "dask.extxyz")
    assert len(read_labels(toys / "dask.extxyz")) == 6


def test_frames_without_any_are_written_and_read(tmp_path: Path) -> None:
    write_frames(tmp_path / "none.extxyz", [])
    assert read_labels(tmp_path / "none.extxyz") == []
