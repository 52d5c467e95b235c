"""The two copies of a recipe that a run writes: one to run from the folder of the run, one to ship with the result.

Both are the recipe as written with overrides applied. In the folder of the run, relative paths are made absolute, so
that the copy finds its data. In the folder of the result, which may be given away, absolute paths are reduced to the
name of the file. Paths that begin with an environment variable are kept in both.
"""

from __future__ import annotations

import glob
import os
import shlex
from pathlib import Path
from typing import Any

import yaml

from mlff_calc.training.recipe_base import TrainingRecipe


def runnable_recipe(recipe: TrainingRecipe, output: Path) -> dict[str, Any]:
    """Return a copy that can be run from any folder.

    Args:
        recipe: The recipe.
        output: Folder of the run, which becomes the output of the copy.
    """

    def anchored(path: str) -> str:
        if Path(os.path.expandvars(str(Path(path).expanduser()))).is_absolute():
            return path
        folder = str(recipe.origin.parent)
        if glob.has_magic(path) and not (recipe.origin.parent / path).is_file():
            folder = glob.escape(folder)  # the folder's own name is not a pattern
        return os.path.normpath(Path(folder) / path)

    return recipe.with_paths(anchored) | {"output": str(output)}


def shipped_recipe(recipe: TrainingRecipe) -> dict[str, Any]:
    """Return a copy without paths of this machine."""
    raw = recipe.with_paths(without_folder)
    if recipe.output is not None:
        raw["output"] = without_folder(recipe.output)
    return raw


def without_folder(path: str) -> str:
    """Return only the name of the file where `path` is absolute or in a home folder; otherwise return `path`."""
    return Path(path).name if path.startswith("~") or Path(path).is_absolute() else path


def shipped_command(command: str) -> str:
    """Return a command line without paths of this machine."""
    words = []
    for word in shlex.split(command):
        option, sign, value = word.partition("=")
        words.append(option + sign + without_folder(value) if sign else without_folder(word))
    return shlex.join(words)


def as_yaml(recipe: dict[str, Any]) -> str:
    """Format a recipe as YAML, with its sections in their order."""
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
