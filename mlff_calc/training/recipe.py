"""Recipes of any kind: the section tells the kind, and everything is checked before anything runs or is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlff_calc.errors import RecipeError
from mlff_calc.near import nearest
from mlff_calc.training.kind_names import DEFAULT, RESERVED, kinds
from mlff_calc.training.kinds import task_of
from mlff_calc.training.recipe_base import TrainingRecipe, parse_as, read_recipe_file


def _kind_of(data: dict[str, Any], origin: Path | str) -> str:
    named = [name for name in kinds() if name in data]
    if len(named) > 1:
        raise RecipeError(f"{origin}: it has the sections {' and '.join(named)}, each of another kind; keep one of them")
    if named or "fine_tune_from" in data:
        return named[0] if named else DEFAULT
    own = [str(key) for key in data if key not in RESERVED]
    return next(filter(None, (nearest(key, kinds()) for key in own)), DEFAULT)


def parse_recipe(data: dict[str, Any], origin: Path | str) -> TrainingRecipe:
    """Check a recipe of any kind, given as a dict; its section tells the kind.

    Args:
        data: The recipe as read from YAML.
        origin: File of the recipe, for messages and relative paths.

    Raises:
        RecipeError: There are unknown keys, wrong types, values out of range, or sections of two kinds.
    """
    return parse_as(task_of(_kind_of(data, origin)).recipe, data, origin)


def load_recipe(path: Path | str, overrides: list[str] | tuple[str, ...] = ()) -> TrainingRecipe:
    """Read and check a recipe of any kind.

    Args:
        path: YAML file.
        overrides: `section.key=value` strings that replace values of the file.

    Raises:
        RecipeError: The file is missing, not YAML, or not a valid recipe.
    """
    return parse_recipe(read_recipe_file(path, overrides), path)
