"""The folder of a run: its files, and its content before it was locked."""

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
"""Files of a run, in the order of their removal when the run is replaced: states go before frames.

So what is left of a removal that is interrupted is never mistaken for a run that can be resumed.
"""


@dataclass(frozen=True)
class FolderMark:
    """Fingerprint of the run in a folder at its current step: the hash of its state and the sizes of its files.

    Attributes:
        state: SHA-256 of `state.json`, which holds the random name and the step of the run; None if the file is missing.
        sizes: Sizes of trajectory and log in bytes; None for a missing file.
    """

    state: str | None
    sizes: tuple[int | None, int | None]


def look(folder: Path) -> FolderMark:
    """Return the mark of a folder, which need not exist."""
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
    """Refuse a folder that holds a run, or files with the names of those a run writes.

    The remains of a run that was killed before its first saved state (a lock, and at most one frame) do not count as a run
    and may be replaced.

    Args:
        folder: Output folder of a new run.
        overwrite: Whether to accept such a folder, whose run is then replaced.

    Returns:
        The mark of the folder, to be compared once the folder is locked.

    Raises:
        OptionError: The folder holds a run, or files of a run whose saved states are gone.
        SimulationError: Another process runs in the folder.
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
    with folder_lock(folder) if (folder / LOCK).exists() else nullcontext():  # its error names the process that runs there
        there = [name for name in OWN_FILES if (folder / name).exists()]
        changed = not there or has_state(folder) or _is_unborn(folder, there)
    if changed:  # another run began or ended during this check
        return refuse_other_run(folder, overwrite=overwrite)
    raise OptionError(
        f"{folder} holds {', '.join(there)} and no saved state to go on from ({STATE} or {SYNCED_STATE}), so nothing was "
        "changed. Put one of the states back, replace what is there by --overwrite, or choose another folder."
    )


def has_state(folder: Path) -> bool:
    """Whether a folder has a saved state, the last one or the synced one; it may be damaged."""
    return any((folder / name).exists() for name in (STATE, SYNCED_STATE))


def _is_unborn(folder: Path, there: list[str]) -> bool:
    """Whether a run was killed here before its first saved state, so that it left a lock, and at most one frame and row."""
    whole = all((folder / name).is_file() for name in there)
    if not (whole and (folder / LOCK).exists() and set(there) <= {TRAJECTORY, LOG}):
        return False
    try:
        if LOG in there:
            with (folder / LOG).open("rb") as rows:
                if sum(1 for _ in islice(rows, 3)) > 2:  # more than the names of the columns and one row
                    return False
        return count_frames(folder / TRAJECTORY) <= 1
    except (SimulationError, OSError):
        return False


def refuse_changed(folder: Path, seen: FolderMark) -> None:
    """Refuse to write into a folder in which another run has written since this one was prepared.

    The folder must be locked when this is called.

    Raises:
        SimulationError: The folder has changed.
    """
    if look(folder) != seen:
        raise SimulationError(
            f"another run has written to {folder} since this one was prepared, so it was not started and changed nothing. "
            "Prepare it again (MDRun.start, MDRun.resume, or the same command) to go on from what is there now, or choose "
            "another folder."
        )


def load_newest(folder: Path, *, warn: bool = True) -> RunState:
    """Load the last saved state, or the synced one where the last is missing or was damaged by a power cut.

    The state counts as damaged also where trajectory or log are shorter than it says.

    Args:
        folder: Folder of a run.
        warn: Whether to log a warning when the synced state is used.

    Raises:
        SimulationError: Neither state can be read.
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
    """Make sure that the path of the folder still leads to the files that the run writes.

    A deleted lock file is created again, and the run continues. If trajectory or log were deleted during the run, they are
    written again from the open files; if the folder itself was deleted or replaced, they are written to a new folder beside
    it.

    Args:
        lock: Lock of the folder.
        trajectory: Open trajectory.
        log: Open log.
        state: Current state, which is saved together with the rescued files.

    Raises:
        SimulationError: A file or the folder was moved, deleted or replaced. The text says where the data are and how to
            continue.
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
