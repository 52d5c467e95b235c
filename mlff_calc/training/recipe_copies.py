"""The two copies of a recipe that a run leaves: one that runs from the folder of the run, one that ships.

Both are the recipe as written with overrides applied. In the folder of the run, paths that were relative to the recipe are
absolute, so that the copy finds its data. In the folder of a potential, which travels, no path of the machine is left: of an
absolute path stays the file's name. Paths that begin with an environment variable stay as they are in both.
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

    return recipe.with_paths(anchored) | {"output": str(output)}


def shipped_recipe(recipe: TrainingRecipe) -> dict[str, Any]:
    """A copy without paths of this machine."""
    raw = recipe.with_paths(without_folder)
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
