"""Parsing YAML to plain data, with the same strictness for recipe files and command-line overrides."""

from __future__ import annotations

from typing import Any

import yaml

from mlff_calc.bounded import MAX_DEPTH
from mlff_calc.errors import RecipeError

MAX_TEXT = 1 << 20
"""Largest number of characters in a recipe; raising it lets larger files be parsed."""
MAX_PLACES = 100_000
"""Largest number of values in a recipe after aliases are expanded; raising it admits larger recipes."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys (the standard one silently keeps the last) and unbounded depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"it is nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)  # type: ignore[no-untyped-call]
        if len(node.value) > MAX_PLACES:
            raise yaml.MarkedYAMLError(problem=_LAUGHS, problem_mark=node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            mark = key_node.start_mark
            if not isinstance(key, str | int | float | None):
                raise yaml.MarkedYAMLError(problem=f"{key!r} cannot be a key; write a word", problem_mark=mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice; keep one", problem_mark=mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_LAUGHS = f"its aliases stand for more than {MAX_PLACES} values; write out the few that are meant"


def read_yaml(text: str, origin: str) -> dict[str, Any]:
    """Parse YAML text that must hold a mapping.

    Raises:
        RecipeError: The text is not YAML or not a mapping, or a key is given twice; the message names the line.
    """
    data = _load_yaml(text, origin)
    if not isinstance(data, dict):
        raise RecipeError(f"{origin}: a recipe is a mapping of sections; `mlff train --example` shows one")
    return data


def _load_yaml(text: str, place: str, *, lines: bool = True) -> Any:  # noqa: ANN401
    """Parse YAML text of any content; raises a RecipeError with place and line where it cannot be read."""
    cure = "; put words with special characters in quotes, and close every bracket"
    if len(text) > MAX_TEXT:
        raise RecipeError(f"{place}: has {len(text)} characters, and a recipe has at most {MAX_TEXT}; is it the right file?")
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
        if _count(data, MAX_PLACES) <= 0:
            raise RecipeError(f"{place}: not readable as YAML: {_LAUGHS}")
        return copy_plain(data)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if lines and error.problem_mark else ""
        cure = "" if type(error) is yaml.MarkedYAMLError else cure  # these errors contain their own cure
        raise RecipeError(f"{place}{line}: not readable as YAML: {error.problem}{cure}") from error
    except RecipeError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        # Apart from its own errors, PyYAML passes on those of dates, tagged numbers and misplaced tags.
        raise RecipeError(f"{place}: not readable as YAML: {' '.join(str(error).split())}{cure}") from error
    except RecursionError as error:
        raise RecipeError(f"{place}: a YAML alias holds itself; write the section out") from error


def _count(data: Any, left: int) -> int:  # noqa: ANN401
    """Return `left` minus the number of values in dicts and lists, counted once per alias; stops at 0 or below."""
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        left = _count(value, left - 1)
        if left <= 0:
            break
    return left


def apply_overrides(data: dict[str, Any], overrides: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Return a copy of `data` with `section.key=value` overrides applied; values are read as YAML.

    Raises:
        RecipeError: An override is not `key=value`, or passes through a value that is not a section.
    """
    data = copy_plain(data)
    for override in overrides:
        dotted, sign, text = override.partition("=")
        if not sign or not dotted.strip():
            raise RecipeError(f"--set {override!r}: write it as section.key=value, e.g. optimizer.batch_size=4")
        keys = dotted.strip().split(".")
        place = data
        for key in keys[:-1]:
            if place.get(key) is None:
                place[key] = {}
            place = place[key]
            if not isinstance(place, dict):
                raise RecipeError(f"--set {override!r}: {key!r} is a value, not a section")
        place[keys[-1]] = _load_yaml(text, f"--set {override!r}", lines=False)
    return data


def copy_plain(data: Any) -> Any:  # noqa: ANN401
    """Return a deep copy of dicts and lists from YAML in which no two places share an object."""
    if isinstance(data, dict):
        return {key: copy_plain(value) for key, value in data.items()}
    return [copy_plain(value) for value in data] if isinstance(data, list) else data
