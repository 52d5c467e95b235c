"""Malicious YAML raises one clear error quickly."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mlff_calc.errors import RecipeError
from mlff_calc.training.recipe_base import read_recipe_file
from mlff_calc.training.recipe_yaml import MAX_TEXT, read_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 30))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "aliases stand for more than 100000 values"),
        (MERGES, "aliases stand for more than 100000 values"),
        ("a: " + "[" * 100_000, "nested deeper than 100"),
        ("- " * 100_000, "nested deeper than 100"),
        ("a: &a [*a]", "alias holds itself"),
        ("a: !!int [1]", "expected a scalar"),
        ("a: !!timestamp x", "not readable"),
        ("a: !!binary x", "not readable"),
        ("a: !!set [1]", "not readable"),
        ("a: !!bool 5", "not readable"),
        ("a: " + "9" * 10_000, "not readable"),
        ("a: \0", "not readable"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: " + "x" * MAX_TEXT, "at most 1048576"),
    ],
)
def test_refused_at_once(text: str, words: str) -> None:
    start = time.monotonic()
    with pytest.raises(RecipeError, match=words):
        read_yaml(text, "recipe.yaml")
    assert time.monotonic() - start < 10.0


def test_a_few_aliases_are_fine() -> None:
    assert read_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}", "r") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


def test_a_pipe_is_no_recipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match="is a pipe"):
        read_recipe_file(tmp_path / "recipe.yaml")
