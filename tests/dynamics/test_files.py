"""Files that stay complete: atomic replacement, appending and truncation, full disks."""

from __future__ import annotations

import errno
import os
import resource

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read

from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions, files
from mlff_calc.dynamics.files import AppendedFile, write_atomically
from mlff_calc.dynamics.trajectory import EMPTY, TrajectoryFile
from mlff_calc.errors import SimulationError


def frames(n):
    atoms = bulk("Cu", cubic=True)
    rng = np.random.default_rng(0)
    for step in range(n):
        moved = atoms.copy()
        moved.positions += rng.standard_normal((4, 3))
        moved.set_momenta(rng.standard_normal((4, 3)))
        yield step, moved, {"energy": float(step), "forces": rng.standard_normal((4, 3)), "forces_std": np.zeros(4)}


def test_frames_keep_every_bit(tmp_path):
    file = TrajectoryFile(tmp_path / "t.traj")
    for step, atoms, results in frames(3):
        file.append(atoms, results, step=step)
        found = read(tmp_path / "t.traj", ":")  # readable while it is written
        assert len(found) == step + 1
        np.testing.assert_array_equal(found[-1].positions, atoms.positions)
        np.testing.assert_array_equal(found[-1].get_momenta(), atoms.get_momenta())
        np.testing.assert_array_equal(found[-1].get_forces(), results["forces"])
        assert found[-1].get_potential_energy() == step
        assert found[-1].info["step"] == step
    file.close()


@pytest.mark.parametrize("kept", [0, 1, 2, 41, 42, 43, 60])
def test_cutting_back_at_any_frame_then_going_on(tmp_path, kept):
    """The table of offsets moves at frames 2 and 43, so marks before and after these must work."""
    path = tmp_path / "t.traj"
    file, marks = TrajectoryFile(path), [EMPTY]
    everything = list(frames(60))
    for step, atoms, results in everything:
        file.append(atoms, results, step=step)
        marks.append(file.mark)
    file.close()
    with path.open("ab") as raw:
        raw.write(b"left over from a kill")
    file = TrajectoryFile(path, marks[kept])
    for step, atoms, results in everything[kept:]:
        file.append(atoms, results, step=step)
    file.close()
    found = read(path, ":")
    assert [atoms.info["step"] for atoms in found] == list(range(60))
    np.testing.assert_array_equal(found[-1].positions, everything[-1][1].positions)


def test_a_trajectory_shorter_than_its_mark_is_refused(tmp_path):
    path = tmp_path / "t.traj"
    file = TrajectoryFile(path)
    for step, atoms, results in frames(3):
        file.append(atoms, results, step=step)
    mark = file.mark
    file.close()
    os.truncate(path, 100)
    with pytest.raises(SimulationError, match="100 bytes"):
        TrajectoryFile(path, mark)


def test_atomic_writing_leaves_the_old_content_where_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SimulationError, match=r"No space left.*--resume"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_record_that_does_not_fit_is_cut_off_again(tmp_path):
    file = AppendedFile(tmp_path / "log")
    file.append(b"0123456789\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        with pytest.raises(SimulationError, match="log: File too large"):
            file.append(b"0123456789\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.close()
    assert (tmp_path / "log").read_bytes() == b"0123456789\n"


@pytest.mark.parametrize("limit", [3000, 9000, 20000])
def test_a_run_on_a_full_disk_gives_one_message_and_can_be_resumed(tmp_path, child, limit):
    """Files cannot grow beyond `limit` bytes. They must be complete afterwards, and the run resumable."""

    def start():
        atoms = bulk("Cu", cubic=True)
        atoms.calc = EMT()
        run = RunOptions(steps=60, log_interval=1, traj_interval=1)
        try:
            MDRun.start(atoms, "run", EnsembleOptions(timestep_fs=2.0), run).run()
        except SimulationError as error:
            print(error)
            raise SystemExit(1) from error

    first = child(start, cwd=tmp_path, largest_file=limit)
    assert first.wait() == 1, first.stderr
    assert first.stdout.count("cannot write") == 1
    assert "File too large" in first.stdout or "written" in first.stdout
    assert not first.stderr
    if not (tmp_path / "run/state.json").exists():
        assert limit == 3000  # the limit is below the first state, so there is no run
        return
    steps = [atoms.info["step"] for atoms in read(tmp_path / "run/trajectory.traj", ":")]
    assert steps == list(range(len(steps)))
    MDRun.resume(tmp_path / "run", EMT()).run()
    assert [atoms.info["step"] for atoms in read(tmp_path / "run/trajectory.traj", ":")] == list(range(61))
    rows = (tmp_path / "run/log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", *map(str, range(61))]


@pytest.mark.parametrize("piece", [1, 1000, 1001, 4096])
def test_a_deleted_file_is_rescued_for_any_size_of_reads(tmp_path, monkeypatch, piece):
    content = bytes(range(256)) * 15 + b"the end"
    file = AppendedFile(tmp_path / "log")
    file.append(content)
    (tmp_path / "log").unlink()
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, n, offset: real(descriptor, min(n, piece), offset))
    file.rescue(tmp_path / "rescued")
    file.close()
    assert (tmp_path / "rescued").read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["rescued"]


@pytest.mark.parametrize("piece", [7, 64 * 2**20])
def test_frames_are_rescued_in_pieces(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(files, "_PIECE", piece)
    file = TrajectoryFile(tmp_path / "t.traj")
    for step, atoms, results in frames(3):
        file.append(atoms, results, step=step)
    (tmp_path / "t.traj").unlink()
    file.rescue(tmp_path / "rescued.traj")
    file.close()
    assert [atoms.info["step"] for atoms in read(tmp_path / "rescued.traj", ":")] == [0, 1, 2]


def test_a_file_that_ends_early_is_not_rescued_as_complete(tmp_path):
    (tmp_path / "old").write_bytes(b"0123456789")
    with (tmp_path / "old").open("rb") as file, pytest.raises(SimulationError, match="after 10 of 11 bytes"):
        files.copy_atomically(file.fileno(), 11, tmp_path / "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["old"]
