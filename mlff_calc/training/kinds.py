"""The tasks of trainable kinds, and which of them a recipe is of."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from mlff_calc.errors import OptionError, RecipeError
from mlff_calc.training.kind_names import DEFAULT, GROUP, RESERVED, kinds, table
from mlff_calc.training.recipe_base import TrainingRecipe, parse_as, read_recipe_file
from mlff_calc.training.task import Task


def task_of(name: str) -> Task[Any, Any]:
    """The task of a kind.

    Raises:
        OptionError: There is no such kind, or the package that brings it is broken.
    """
    if name not in table():
        near = difflib.get_close_matches(name, kinds(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"no kind {name!r}: what can be trained is {', '.join(kinds())}{hint}")
    try:
        task: Task[Any, Any] = EntryPoint(name, table()[name], GROUP).load()()
        if task.name != name or name not in task.recipe.model_fields:
            raise TypeError(f"its task is called {task.name!r}, its recipe has the sections {[*task.recipe.model_fields]}")
    except Exception as error:  # another package's code, which may fail as it likes
        raise OptionError(
            f"the kind {name!r} cannot be used ({type(error).__name__}: {error}); reinstall or remove the package that "
            f"brings {table()[name]}"
        ) from error
    return task


def task_for(recipe: TrainingRecipe) -> Task[Any, Any]:
    """The task that a recipe belongs to, by its class.

    Raises:
        OptionError: There is none.
    """
    for name in kinds():
        if name in type(recipe).model_fields and isinstance(recipe, (task := task_of(name)).recipe):
            return task
    raise OptionError(f"{type(recipe).__name__} is the recipe of no kind; what can be trained is {', '.join(kinds())}")


def _kind_of(data: dict[str, Any], origin: Path | str) -> str:
    named = [name for name in kinds() if name in data]
    if len(named) > 1:
        raise RecipeError(f"{origin}: it has the sections {' and '.join(named)}, each of another kind; keep one of them")
    if named or "fine_tune_from" in data:
        return named[0] if named else DEFAULT
    own = [str(key) for key in data if key not in RESERVED]
    near = [name for key in own for name in difflib.get_close_matches(key, kinds(), n=1)]
    return near[0] if near else DEFAULT


def parse_any_recipe(data: dict[str, Any], origin: Path | str) -> TrainingRecipe:
    """Check a recipe of any kind, given as a dict; its section tells the kind.

    Args:
        data: The recipe as read from YAML.
        origin: The file it belongs to, for messages and relative paths.

    Raises:
        RecipeError: Unknown keys (with the nearest valid one), wrong types, values out of range, two kinds in one.
    """
    return parse_as(task_of(_kind_of(data, origin)).recipe, data, origin)


def load_any_recipe(path: Path | str, overrides: list[str] | tuple[str, ...] = ()) -> TrainingRecipe:
    """Read and check a recipe of any kind.

    Args:
        path: YAML file.
        overrides: `section.key=value` strings that replace what the file says.

    Raises:
        RecipeError: The file is missing, is not YAML, or does not hold a valid recipe.
    """
    return parse_any_recipe(read_recipe_file(path, overrides), path)
