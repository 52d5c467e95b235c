"""Locks of folders on file systems that lack one kind of lock or both; races are in tests/races."""

from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from mlff_calc.errors import SimulationError, TrainingError
from mlff_calc.locks import LOCK, FolderLock, folder_lock, output_lock
from mlff_calc.training.place import check_place


def answer(number: int):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_flock_a_record_lock_is_taken(tmp_path: Path, monkeypatch, caplog, number: int) -> None:
    monkeypatch.setattr(fcntl, "flock", answer(number))
    with folder_lock(tmp_path), (tmp_path / LOCK).open("r+b") as file:
        child = os.fork()
        if child == 0:  # record locks exclude other processes only
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not caplog.records


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_record_lock_that_another_process_holds(tmp_path: Path, monkeypatch, number: int) -> None:
    monkeypatch.setattr(fcntl, "flock", answer(errno.ENOSYS))
    monkeypatch.setattr(fcntl, "lockf", answer(number))
    with pytest.raises(SimulationError, match="another process is running"), folder_lock(tmp_path):
        pass


def test_without_any_locks_there_is_a_warning_and_no_error(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(fcntl, "flock", answer(errno.EOPNOTSUPP))
    monkeypatch.setattr(fcntl, "lockf", answer(errno.ENOLCK))
    with folder_lock(tmp_path) as lock:
        assert lock.keep()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"the file system of {tmp_path} has no locks" in caplog.text
    with output_lock(tmp_path / "a.extxyz"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_other_refusals_are_errors(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fcntl, "flock", answer(errno.EIO))
    with pytest.raises(TrainingError, match="refuses a lock"), folder_lock(tmp_path, error=TrainingError):
        pass


def test_a_deleted_lock_is_taken_again(tmp_path: Path, caplog) -> None:
    with folder_lock(tmp_path) as lock:
        (tmp_path / LOCK).unlink()
        assert not lock.is_in_place()
        check_place(lock)
        assert lock.is_in_place()
        assert "removed during the run" in caplog.text
        with pytest.raises(SimulationError, match="another process"), folder_lock(tmp_path):
            pass
    with folder_lock(tmp_path):
        pass


def _replace_lock(folder: Path) -> None:
    (folder / LOCK).unlink()
    (folder / LOCK).touch()


def _replace_folder(folder: Path) -> None:
    (folder / LOCK).unlink()
    folder.rmdir()
    folder.mkdir()


@pytest.mark.parametrize("change", [_replace_lock, _replace_folder])
def test_a_lock_that_another_process_may_have_is_not_taken_back(tmp_path: Path, change) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with folder_lock(folder) as lock:
        change(folder)
        before = list(folder.iterdir())
        with pytest.raises(TrainingError, match="deleted or replaced"):
            check_place(lock)
        assert list(folder.iterdir()) == before


def test_processes_on_several_devices_continue_until_another_run_takes_the_lock(tmp_path: Path) -> None:
    with folder_lock(tmp_path) as lock, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        assert other.submit(FolderLock.keep, lock).result()
        (tmp_path / LOCK).unlink()
        assert other.submit(FolderLock.keep, lock).result()
        assert list(tmp_path.iterdir()) == []
        (tmp_path / LOCK).touch()
        assert not other.submit(FolderLock.keep, lock).result()


def test_a_moved_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with folder_lock(tmp_path / "run") as lock:
        (tmp_path / "run").rename(tmp_path / "moved")
        (tmp_path / "moved" / LOCK).unlink()
        assert not lock.keep()
        assert lock.whereabouts() == tmp_path / "moved"


def test_all_is_closed_in_the_end(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    with folder_lock(tmp_path) as lock:
        assert isinstance(lock, FolderLock)
        (tmp_path / LOCK).unlink()
        assert lock.keep()
    assert descriptors() == before
