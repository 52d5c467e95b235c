"""The tasks of trainable kinds."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from mlff_calc.errors import OptionError
from mlff_calc.near import suggestion
from mlff_calc.training.kind_names import GROUP, kinds, table
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.task import Task


def task_of(name: str) -> Task[Any, Any]:
    """Return the task of a kind.

    Raises:
        OptionError: There is no such kind, or the package that provides it is broken.
    """
    if name not in table():
        hint = suggestion(name, kinds(), before="; ")
        raise OptionError(f"no kind {name!r}: what can be trained is {', '.join(kinds())}{hint}")
    try:
        task: Task[Any, Any] = EntryPoint(name, table()[name], GROUP).load()()
        if task.name != name or name not in task.recipe.model_fields:
            raise TypeError(f"its task is called {task.name!r}, its recipe has the sections {[*task.recipe.model_fields]}")
    except Exception as error:  # code of another package may raise anything
        raise OptionError(
            f"the kind {name!r} cannot be used ({type(error).__name__}: {error}); reinstall or remove the package that "
            f"brings {table()[name]}"
        ) from error
    return task


def task_for(recipe: TrainingRecipe) -> Task[Any, Any]:
    """Return the task that a recipe belongs to, by its class.

    Raises:
        OptionError: No kind has such a recipe.
    """
    for name in kinds():
        if name in type(recipe).model_fields and isinstance(recipe, (task := task_of(name)).recipe):
            return task
    raise OptionError(f"{type(recipe).__name__} is the recipe of no kind; what can be trained is {', '.join(kinds())}")
