"""Rules of the folder of a run: which run may write there, and whether a run in it may be resumed."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from mlff_calc.bounded import read_text
from mlff_calc.datasets import PARTS
from mlff_calc.errors import OptionError, RecipeError, TrainingError
from mlff_calc.locks import LOCK, FolderLock, folder_lock
from mlff_calc.training.fingerprints import changed_files
from mlff_calc.training.folder import RunFolder
from mlff_calc.training.kind_names import kinds
from mlff_calc.training.kinds import task_for, task_of
from mlff_calc.training.recipe_base import TrainingRecipe, parse_as
from mlff_calc.training.recipe_copies import as_yaml, runnable_recipe
from mlff_calc.training.recipe_yaml import read_yaml
from mlff_calc.whole_files import leftovers, write_whole

# Keys that a resumed run may change, since they do not affect results; data files are compared by content.
FREE_KEYS = (
    "output",
    "card",
    "trainer.checkpoint_every",
    "trainer.device",
    "densities.workers",
    "data.file",
    *(f"data.{part}.file" for part in PARTS),
)
_OWN = (
    "recipe.yaml",
    "run.json",
    "metrics.csv",
    "learning_curve.png",
    "evaluation.json",
    "bad_batch.extxyz",
    "bad_batch.txt",
    "failure.txt",
)
ORIGIN = "reference_energies"
"""Entry of the record that says where reference energies come from; records of older versions lack it."""
_OLD_WAYS = ((ORIGIN, "auto", "fit"), ("data.keep_isolated_atoms", False, True))


def check_folder(folder: RunFolder, recipe: TrainingRecipe, *, resume: bool, overwrite: bool) -> bool:
    """Decide whether a run may use the folder. Nothing is written.

    Returns:
        Whether there is a run to resume.

    Raises:
        TrainingError: There is a run and neither `resume` nor `overwrite` is set, there is nothing to resume, or the
            run is finished.
        RecipeError: The run to resume had another recipe; the message names the keys.
    """
    if resume and overwrite:
        raise RecipeError("--resume and --overwrite exclude each other; give one of them")
    if folder.path.exists() and not folder.path.is_dir():
        raise TrainingError(f"{folder.path}: is a file; give another --output")
    there = folder.record.is_file()
    begun = there and not overwrite and not folder.read_record().get("set_up", True)
    if not resume:
        if there and not overwrite and not begun:
            raise TrainingError(f"{folder.path}: holds a run already; go on with --resume, replace it with --overwrite")
        if not there and folder.path.is_dir() and set(folder.path.iterdir()) - {folder.path / LOCK, *_leftovers(folder)}:
            if folder.record.is_file():  # another run began in the meantime
                return check_folder(folder, recipe, resume=resume, overwrite=overwrite)
            raise TrainingError(f"{folder.path}: is not empty and not a run; give another --output")
        return False
    if not there or begun:
        raise TrainingError(f"{folder.path}: there is no run to resume; leave out --resume to start one")
    _refuse_other_recipe(folder, recipe)
    if folder.read_record().get("finished"):
        raise TrainingError(f"{folder.path}: this run is finished; --overwrite starts it anew")
    return True


def look(folder: RunFolder) -> tuple[object, ...]:
    """Return a fingerprint of a run and its progress: the content of `run.json` and the identity of `last.ckpt`."""
    try:
        record = hashlib.sha256(folder.record.read_bytes()).hexdigest()
    except OSError:
        return (None,)
    try:
        last = folder.last.stat()
    except OSError:
        return (record,)
    return record, last.st_ino, last.st_size, last.st_mtime_ns


@contextmanager
def hold_folder(folder: RunFolder, seen: tuple[object, ...]) -> Iterator[FolderLock]:
    """Lock the folder, creating it if necessary, for one run.

    Args:
        folder: Folder of the run.
        seen: Result of `look` before `check_folder` allowed the run to use the folder.

    Yields:
        The lock, which knows where the folder is.

    Raises:
        TrainingError: Another process uses the folder, or another run has written there since.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder.path, error=TrainingError) as lock:
        if look(folder) != seen:
            raise TrainingError(
                f"{folder.path}: another run has written there in the meantime, so this one was not started and changed "
                "nothing; repeat the command to decide by the present content, or give another --output"
            )
        yield lock


def _refuse_other_recipe(folder: RunFolder, recipe: TrainingRecipe) -> None:
    kept = read_yaml(read_text(folder.recipe, RecipeError), str(folder.recipe))
    before = parse_as(type(recipe), kept, folder.recipe)
    anchored = parse_as(type(recipe), runnable_recipe(recipe, folder.path), recipe.origin)
    old, new, written = (_flat(each.model_dump(mode="json")) for each in (before, anchored, recipe))
    changed = [key for key in {**old, **new} if old.get(key) not in (new.get(key), written.get(key)) and not _free(key)]
    if ORIGIN not in folder.read_record():
        changed = [key for key in changed if not _left_open(key, old.get(key), new.get(key))]
    if changed:
        listed = "; ".join(f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in changed)
        raise RecipeError(
            f"{recipe.origin}: the run in {folder.path} had another recipe: {listed}. "
            "Undo the change to resume, or start anew with --overwrite or another --output"
        )


def _left_open(key: str, before: object, now: object) -> bool:
    """Whether a key describes how an older run read its data, where neither its record nor its recipe says so."""
    if key.endswith("units.forces"):
        return before is None
    return (key, before, now) in _OLD_WAYS


def _free(key: str) -> bool:
    key = re.sub(r"^(data\.\w+)\.\d+\.", r"\1.", key)  # number of a source in a list
    return any(key == free or key.startswith(free + ".") for free in FREE_KEYS)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:  # noqa: ANN401
    if isinstance(data, list) and data and all(isinstance(entry, dict) for entry in data):
        data = dict(enumerate(data))
    if not isinstance(data, dict):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def check_data_unchanged(folder: RunFolder, data: dict[str, dict[str, Any]]) -> None:
    """Refuse to resume with changed data.

    Raises:
        TrainingError: A file differs from the one that the run started with.
    """
    before = folder.read_record().get("data", {})
    for part, now in data.items():
        changed = changed_files(before.get(part, {}), now)
        if changed:
            raise TrainingError(
                f"{', '.join(changed)}: the data of `{part}` changed since the run in {folder.path} started; "
                "restore what they were, or start anew with --overwrite"
            )


def _leftovers(folder: RunFolder) -> list[Path]:
    """Temporary files and folders that a killed process left."""
    found = leftovers(folder.path, _OWN) + leftovers(folder.checkpoints, ["*.ckpt"])
    return found + [path for name in kinds() for path in folder.path.glob(f".{name}-*") if path.is_dir()]


def remove_leftovers(folder: RunFolder) -> None:
    """Remove temporary files and folders that a killed process left."""
    for path in _leftovers(folder):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def set_up_folder(
    folder: RunFolder,
    recipe: TrainingRecipe,
    data: dict[str, Any],
    command: str,
    *,
    resume: bool,
    decided: dict[str, Any] | None = None,
) -> None:
    """Prepare a locked folder: begin a new run, or check that a resumed run finds its data unchanged.

    Args:
        folder: Folder of the run, locked.
        recipe: Recipe of the run.
        data: Fingerprints of the data by part.
        command: Command line, for the record.
        resume: Result of `check_folder`.
        decided: Further entries for the record of a new run, see `Task.decisions`.

    Raises:
        TrainingError: The data of a resumed run have changed.
    """
    if resume:
        check_data_unchanged(folder, data)
        remove_leftovers(folder)
    else:
        start_folder(folder, recipe, data, command, decided)


def _kinds_before(folder: RunFolder) -> list[str]:
    """Kind of the run in the folder; all kinds where the record does not say, as in earlier versions."""
    try:
        kind = folder.read_record().get("kind")
    except TrainingError:
        kind = None
    return [kind] if kind in kinds() else kinds()


def _drawings(kind: str) -> tuple[str, ...]:
    try:
        return task_of(kind).drawings
    except OptionError:  # a broken package of one kind must not block others
        return ()


def start_folder(
    folder: RunFolder, recipe: TrainingRecipe, data: dict[str, Any], command: str, decided: dict[str, Any] | None = None
) -> None:
    """Begin a new run in the folder. Files of an older run and the folder of its kind are removed; everything else is kept.

    The record is written first and last, so that after an interruption the folder is known to be free for a run.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    before = _kinds_before(folder)
    folder.write_record({"set_up": False, "kind": before[0] if len(before) == 1 else None})
    remove_leftovers(folder)
    for name in (*_OWN, *(name for each in before for name in _drawings(each))):
        if name != folder.record.name:
            (folder.path / name).unlink(missing_ok=True)
    for name in ("checkpoints", *before):
        if (folder.path / name).is_dir():
            shutil.rmtree(folder.path / name)
    folder.checkpoints.mkdir()
    write_whole(folder.recipe, as_yaml(runnable_recipe(recipe, folder.path)))
    folder.write_record(
        {
            "set_up": True,
            "kind": task_for(recipe).name,
            "run": uuid4().hex,
            "command": command,
            "data": data,
            **(decided or {}),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "finished": False,
        }
    )
