"""Trainings of studies, each in a folder with its result, recipe and version, so that a stopped study goes on where it was.

A training that fails leaves the reason as its result, so that the others go on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlff_calc.errors import BenchmarkError, MLFFError, TrainingError
from mlff_calc.training import train
from mlff_calc.training.folder import RunFolder
from mlff_calc.training.recipe import load_recipe, parse_recipe
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.task import Task
from mlff_calc.version import __version__
from mlff_calc.whole_files import write_whole

Judge = Callable[[dict[str, Any]], dict[str, Any]]
"""Function from the record of a finished run, with its `evaluation`, to the result of a study."""


def result_of(
    folder: Path, recipe: TrainingRecipe, judge: Judge, task: Task[Any, Any] | None = None
) -> dict[str, Any]:
    """Result of a training: the one that is kept, or that of the finished run there, or of a new or resumed one.

    Args:
        folder: Folder of the run, which also keeps `result.json`.
        recipe: Recipe of the run.
        judge: Function that makes the result; its values are plain.
        task: Task that carries the run out; by default that of the recipe's kind.

    Returns:
        Result of `judge`, or the reason in `failed`; beside it `recipe` and `version`.

    Raises:
        BenchmarkError: The folder holds what another recipe or version has made.
    """
    made = {"recipe": _plain(recipe), "version": __version__}
    kept = _kept(folder / "result.json")
    if kept is not None:
        _check_made(folder, kept, made)
        return kept
    record = _record(folder)
    if record is not None:
        _check_made(folder, {"recipe": _plain(load_recipe(folder / "recipe.yaml"))}, made)
    elif folder.exists():  # the beginning of a run, which cannot be resumed
        shutil.rmtree(folder)
    try:
        if record is None or not record.get("finished"):
            train(recipe, output=folder, resume=record is not None, task=task)
        evaluation = json.loads((folder / "evaluation.json").read_text())
        found = judge(RunFolder(folder).read_record() | {"evaluation": evaluation})
    except MLFFError as error:
        folder.mkdir(parents=True, exist_ok=True)
        found = {"failed": f"{error} (delete {folder} to try again)"}
    found |= made
    write_whole(folder / "result.json", json.dumps(found))
    return found


def _plain(recipe: TrainingRecipe) -> dict[str, Any]:
    """A recipe with every default written out; paths are names without folders, and data are compared by content."""
    named = parse_recipe(recipe.with_paths(lambda path: Path(path).name), recipe.origin)
    return dict(json.loads(named.model_dump_json(exclude={"output": True, "data": {"file"}})))


def _kept(file: Path) -> dict[str, Any] | None:
    """A kept result; None where there is none or it is damaged, so that it is made again."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"errors", "failed"} & found.keys() else None


def _record(folder: Path) -> dict[str, Any] | None:
    """Record of a run that can be resumed or is finished; None where there is none."""
    try:
        record = RunFolder(folder).read_record()
    except TrainingError:
        return None
    return record if record.get("set_up", True) else None


def _check_made(folder: Path, kept: dict[str, Any], made: dict[str, Any]) -> None:
    """Refuse what another recipe or version has made; results of earlier versions do not say it.

    Raises:
        BenchmarkError: It differs.
    """
    for key, now in made.items():
        if kept.get(key, now) != now:
            raise BenchmarkError(f"{folder} was made with another {key} than now asked for; choose another --output")
