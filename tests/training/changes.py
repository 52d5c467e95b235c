"""Recipes of tests with some keys changed."""

from __future__ import annotations

from typing import Any


def with_changes(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Set keys of a recipe in place, named `section__key`; a section alone is updated by a dict."""
    for place, value in changes.items():
        section, _, name = place.partition("__")
        recipe[section] = recipe.get(section, {}) | ({name: value} if name else value)
    return recipe
