"""The trajectory of a run: a file in ASE's binary format .traj, extended and truncated by whole frames.

The format suits a run that may be killed: the data of a frame are written first, and the number of frames in the header
last, so that `ase.io.read` finds only whole frames at any moment. Positions and momenta are stored as doubles.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import TrajectoryWriter

from mlff_calc.dynamics.files import RESUME, copy_atomically, write_failure
from mlff_calc.errors import SimulationError
from mlff_calc.locks import same_file

_COUNT_OFFSET = 32  # bytes into the header of ASE's ULM format: number of items, then position of the table of offsets
_HEAD = _COUNT_OFFSET + 16
_MAGIC = b"- of Ulm"
_STORED_RESULTS = ("energy", "forces", "stress", "dipole")


@dataclass(frozen=True)
class Mark:
    """Length of a trajectory, to which it can be truncated.

    Attributes:
        n_frames: Number of frames.
        size: Length of the file, bytes.
        table: Position of the table of offsets in the file, bytes.
    """

    n_frames: int
    size: int
    table: int


EMPTY = Mark(n_frames=0, size=0, table=0)


class TrajectoryFile:
    """A .traj file to which frames are appended."""

    def __init__(self, path: Path, mark: Mark = EMPTY, *, cure: str = RESUME) -> None:
        """Open the file and remove all frames after the mark.

        Args:
            path: Path of the file.
            mark: Length to which the file is truncated; `EMPTY` starts a new file.
            cure: Advice in the error for a refused write.

        Raises:
            SimulationError: The file is shorter than the mark, or cannot be written.
        """
        self.path, self._cure = path, cure
        try:
            _cut(path, mark)
            self._writer = TrajectoryWriter(str(path), mode="a" if mark.n_frames else "w")
        except OSError as error:
            raise write_failure(path, error, cure=cure) from error
        except SimulationError:
            raise
        except Exception as error:  # ASE raises AssertionError and errors of other types on a damaged file
            raise _damaged(path) from error
        self.mark = mark
        self._reader = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def append(self, atoms: Atoms, results: dict[str, Any], **info: float) -> None:
        """Append a frame with its results.

        Args:
            atoms: Structure with momenta.
            results: Results of a calculator, of which energy, forces, stress and dipole are stored.
            info: Numbers to store in the `info` of the frame, such as the step.

        Raises:
            SimulationError: The disk refuses. The file then holds the same frames as before.
        """
        frame = atoms.copy()
        frame.info.update(info)
        frame.calc = SinglePointCalculator(frame, **{key: results[key] for key in _STORED_RESULTS if key in results})
        try:
            self._writer.write(frame)
            self.mark = self._here()
        except OSError as error:
            self._abandon()
            raise write_failure(self.path, error, cure=self._cure) from error

    def _here(self) -> Mark:
        backend = self._writer.backend
        return Mark(int(backend.nitems), os.fstat(backend.fd.fileno()).st_size, int(backend.pos0))

    def _abandon(self) -> None:
        """Close the file after a failed write, and remove the incomplete frame."""
        with contextlib.suppress(OSError):
            self._writer.backend.fd.close()
        with contextlib.suppress(OSError, SimulationError):
            _cut(self.path, self.mark)

    def is_in_place(self) -> bool:
        """Whether the path still leads to the open file."""
        return same_file(self.path, self._reader)

    def rescue(self, path: Path) -> None:
        """Copy all whole frames of the open file, which may have been deleted, to another path atomically.

        Raises:
            SimulationError: The disk refuses.
        """
        copy_atomically(self._reader, self.mark.size, path)

    def sync(self) -> None:
        """Wait until the frames are on the disk."""
        os.fsync(self._writer.backend.fd.fileno())

    def close(self) -> None:
        """Close the file; may be called again."""
        if not self._writer.backend.fd.closed:
            self._writer.close()
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1


def count_frames(path: Path) -> int:
    """Return the number of frames in the header of a trajectory; 0 for a missing or empty file.

    Raises:
        SimulationError: The file is not a trajectory.
        OSError: The file cannot be read.
    """
    if not path.exists():
        return 0
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return 0
    if not head.startswith(_MAGIC) or len(head) < _HEAD:
        raise _damaged(path)
    return int(struct.unpack("<qq", head[_COUNT_OFFSET:])[0])


def _damaged(path: Path) -> SimulationError:
    return SimulationError(
        f"{path} is not the trajectory that the saved state counts on: it is damaged, or was replaced. Put the file back, "
        "or start over with --overwrite."
    )


def _cut(path: Path, mark: Mark) -> None:
    if mark.n_frames == 0:
        if path.exists():
            os.truncate(path, 0)
        return
    size = path.stat().st_size if path.exists() else 0
    if size < mark.size:
        raise SimulationError(
            f"{path} has {size} bytes, and the saved state says {mark.size}: it was changed since. "
            "Put the file back, or start over with --overwrite."
        )
    with path.open("r+b") as file:
        head = file.read(_HEAD)
        n_frames, _ = struct.unpack("<qq", head[_COUNT_OFFSET:]) if len(head) == _HEAD else (-1, 0)
        if not head.startswith(_MAGIC) or mark.n_frames > n_frames or not len(head) <= mark.table < mark.size:
            raise _damaged(path)  # raised before anything is written
        file.seek(_COUNT_OFFSET)
        file.write(struct.pack("<qq", mark.n_frames, mark.table))
        file.flush()
        file.truncate(mark.size)
