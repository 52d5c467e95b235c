"""The folder of a run: its files, and what was seen there before it was locked."""

from __future__ import annotations

import hashlib
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mlff_calc.dynamics.files import free_name
from mlff_calc.dynamics.log import LogFile
from mlff_calc.dynamics.state import RunState, load_state
from mlff_calc.dynamics.trajectory import TrajectoryFile, count_frames
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.locks import LOCK, FolderLock, folder_lock

logger = logging.getLogger(__name__)

TRAJECTORY, LOG, STATE, STOPPED = "trajectory.traj", "log.csv", "state.json", "stopped.extxyz"
SYNCED_STATE, REPORT, PLOT = "state.synced.json", "report.html", "energies.png"
OWN_FILES = (REPORT, PLOT, STOPPED, STATE, SYNCED_STATE, TRAJECTORY, LOG)
"""In the order in which a run that is replaced is removed: what is left of it at any moment is not taken for another's."""


@dataclass(frozen=True)
class FolderMark:
    """What tells the run in a folder, at its present step, from any other: its state's content and its files' sizes.

    Attributes:
        state: SHA-256 of `state.json`, which holds the run's random name and step; None where there is none.
        sizes: bytes of trajectory and log; None where there is none.
    """

    state: str | None
    sizes: tuple[int | None, int | None]


def look(folder: Path) -> FolderMark:
    """The mark of a folder, which need not exist."""
    try:
        state = hashlib.sha256((folder / STATE).read_bytes()).hexdigest()
    except OSError:
        state = None
    return FolderMark(state, (_size(folder / TRAJECTORY), _size(folder / LOG)))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def refuse_other_run(folder: Path, *, overwrite: bool) -> FolderMark:
    """Refuse a folder that holds a run, or files of the names a run would write.

    What a run left that was killed before its first saved state (a lock, and one frame at most) is no run and may be
    replaced.

    Args:
        folder: output folder of a new run.
        overwrite: let it pass.

    Returns:
        What was seen, to be compared once the folder is locked.

    Raises:
        OptionError: there is a run, or files of one whose saved states are gone.
        SimulationError: another process runs there.
    """
    seen = look(folder)
    there = [name for name in OWN_FILES if (folder / name).exists()]
    if not there or overwrite or _is_unborn(folder, there):
        return seen
    if has_state(folder):
        raise OptionError(
            f"{folder} holds a run already ({', '.join(there)}). "
            "Go on with it by --resume, replace it by --overwrite, or choose another folder."
        )
    with folder_lock(folder) if (folder / LOCK).exists() else nullcontext():  # whoever is at work there is named
        there = [name for name in OWN_FILES if (folder / name).exists()]
        changed = not there or has_state(folder) or _is_unborn(folder, there)
    if changed:  # by a run that began or ended while this one looked
        return refuse_other_run(folder, overwrite=overwrite)
    raise OptionError(
        f"{folder} holds {', '.join(there)} and no saved state to go on from ({STATE} or {SYNCED_STATE}), so nothing was "
        "changed. Put one of the states back, replace what is there by --overwrite, or choose another folder."
    )


def has_state(folder: Path) -> bool:
    """Whether a folder has a saved state to go on from, whole or not: the last one, or the synced one."""
    return any((folder / name).exists() for name in (STATE, SYNCED_STATE))


def _is_unborn(folder: Path, there: list[str]) -> bool:
    """Whether a run was killed here before its first saved state: it left a lock, and its first frame and row at most."""
    whole = all((folder / name).is_file() for name in there)
    if not (whole and (folder / LOCK).exists() and set(there) <= {TRAJECTORY, LOG}):
        return False
    try:
        if LOG in there:
            with (folder / LOG).open("rb") as rows:
                if sum(1 for _ in islice(rows, 3)) > 2:  # the names of the columns, and one row
                    return False
        return count_frames(folder / TRAJECTORY) <= 1
    except (SimulationError, OSError):
        return False


def refuse_changed(folder: Path, seen: FolderMark) -> None:
    """Refuse to write where another run has written since this one was prepared; called under the lock.

    Raises:
        SimulationError: the folder is not as it was.
    """
    if look(folder) != seen:
        raise SimulationError(
            f"another run has written to {folder} since this one was prepared, so it was not started and changed nothing. "
            "Prepare it again (MDRun.start, MDRun.resume, or the same command) to go on from what is there now, or choose "
            "another folder."
        )


def load_newest(folder: Path, *, warn: bool = True) -> RunState:
    """The saved state; where it is gone, or a power cut has damaged it or the files it counts on, the synced one.

    Args:
        folder: the folder of a run.
        warn: log a warning where it is the synced one.

    Raises:
        SimulationError: neither can be read.
    """
    try:
        state = load_state(folder / STATE)
        whole = all(
            (folder / name).exists() and (folder / name).stat().st_size >= size
            for name, size in ((TRAJECTORY, state.trajectory.size), (LOG, state.log_size))
        )
    except SimulationError:
        if not (folder / SYNCED_STATE).is_file():
            raise
        whole = False
    if whole or not (folder / SYNCED_STATE).is_file():
        return state
    state = load_state(folder / SYNCED_STATE)
    if warn:
        fault = "is damaged" if (folder / STATE).exists() else "is missing"
        logger.warning("%s %s; going on from %s at step %d", STATE, fault, SYNCED_STATE, state.step)
    return state


def check_place(lock: FolderLock, trajectory: TrajectoryFile, log: LogFile, state: RunState) -> None:
    """Make sure that the run still writes where its folder's path leads.

    A lock file that was deleted is made again, and the run goes on. Trajectory and log that were deleted under a running run
    are written again from the open ones; where the folder itself is gone or
    another one stands there, they go to a folder of a new name beside it.

    Args:
        lock: the folder's lock.
        trajectory: the open trajectory.
        log: the open log.
        state: the state as of now; it is saved with what is rescued.

    Raises:
        SimulationError: something is not where it was; says where everything is and how to go on.
    """
    folder = lock.folder
    if lock.keep() and trajectory.is_in_place() and log.is_in_place():
        return
    now = lock.whereabouts()
    if now is not None and now != folder.resolve() and not lock.is_in_place():
        state.save(now / STATE)
        raise SimulationError(
            f"stopped at step {state.step}: {folder} was moved during the run. Everything written is whole and in {now}. "
            f"Go on there: --resume with --output {now}."
        )
    gone = [name for name, file in ((TRAJECTORY, trajectory), (LOG, log)) if not file.is_in_place()]
    there = [name for name in (*gone, STATE) if (folder / name).exists()]
    place = folder if lock.is_in_place() and there in ([], [STATE]) else free_name(folder)
    place.mkdir(parents=True, exist_ok=True)
    if place != folder or TRAJECTORY in gone:
        trajectory.rescue(place / TRAJECTORY)
    if place != folder or LOG in gone:
        log.rescue(place / LOG)
    state.save(place / STATE)
    what = f"{', '.join(gone)} in {folder}" if lock.is_in_place() else f"{folder} (or its {LOCK})"
    raise SimulationError(
        f"stopped at step {state.step}: {what} was deleted or replaced during the run. {trajectory.mark.n_frames} frames "
        f"were saved again, in {place}. Go on there: --resume with --output {place}."
    )
