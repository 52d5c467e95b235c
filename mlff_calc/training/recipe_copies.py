"""The two copies of a recipe that a run leaves: one that runs from the folder of the run, one that ships.

Both are the recipe as written with overrides applied. In the folder of the run, paths that were relative to the recipe are
absolute, so that the copy finds its data. In the folder of a potential, which travels, no path of the machine is left: of an
absolute path stays the file's name. Paths that begin with an environment variable stay as they are in both.
"""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mlff_calc.datasets import PARTS
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.recipe_yaml import copy_plain


def runnable_recipe(recipe: TrainingRecipe, output: Path) -> dict[str, Any]:
    """A copy that means the same wherever it lies.

    Args:
        recipe: The recipe.
        output: Folder of the run, which the copy names as its output.
    """

    def anchored(path: str) -> str:
        if Path(os.path.expandvars(str(Path(path).expanduser()))).is_absolute():
            return path
        folder = str(recipe.origin.parent)
        if glob.has_magic(path) and not (recipe.origin.parent / path).is_file():
            folder = glob.escape(folder)  # what looks like a pattern in the folder's own name is none
        return os.path.normpath(Path(folder) / path)

    def start(name: str) -> str:
        return anchored(name) if isinstance(recipe, PotentialRecipe) and isinstance(recipe.start(), Path) else name

    return _with_paths(recipe.raw, anchored, start) | {"output": str(output)}


def shipped_recipe(recipe: TrainingRecipe) -> dict[str, Any]:
    """A copy without paths of this machine."""
    raw = _with_paths(recipe.raw, without_folder, without_folder)
    if recipe.output is not None:
        raw["output"] = without_folder(recipe.output)
    return raw


def without_folder(path: str) -> str:
    """The name of the file where `path` begins at the root or in a home folder; else `path` as it is."""
    return Path(path).name if path.startswith("~") or Path(path).is_absolute() else path


def shipped_command(command: str) -> str:
    """A command line without paths of this machine."""
    words = []
    for word in shlex.split(command):
        option, sign, value = word.partition("=")
        words.append(option + sign + without_folder(value) if sign else without_folder(word))
    return shlex.join(words)


def as_yaml(recipe: dict[str, Any]) -> str:
    """YAML text with the sections in the order they were written."""
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)


def _with_paths(raw: dict[str, Any], change: Callable[[str], str], start: Callable[[str], str]) -> dict[str, Any]:
    """A copy with other paths of data files and, by `start`, of the potential to start from."""
    raw = copy_plain(raw)
    data = raw.get("data")
    if isinstance(data, dict):
        for key in ("file", *PARTS):  # one file with all parts, or some for each
            if data.get(key) is not None:
                data[key] = _changed(data[key], change)
    if raw.get("fine_tune_from") is not None:
        raw["fine_tune_from"] = start(raw["fine_tune_from"])
    return raw


def _changed(source: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401
    """A part of the data (a path, a source, or a list of these) with other paths."""
    if isinstance(source, str):
        return change(source)
    if isinstance(source, list):
        return [_changed(one, change) for one in source]
    return source | {"file": _changed(source["file"], change)} if "file" in source else source
