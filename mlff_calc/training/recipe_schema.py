"""The schema of recipes: as JSON schema for editors, and as a page of the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from mlff_calc.training.kind_names import kinds
from mlff_calc.training.kinds import task_of

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_UNIT = re.compile(r"\s*\[(?P<unit>[^][]+)\](?=\.?$)")


def recipe_schema(kind: str) -> dict[str, Any]:
    """Return the JSON schema of the recipes of a kind.

    Args:
        kind: Name of the kind.

    Raises:
        OptionError: There is no such kind, or the package that provides it is broken.
    """
    return {"$schema": DRAFT} | task_of(kind).recipe.model_json_schema()


def recipe_page() -> str:
    """Write the page of all keys of all kinds, with default, unit and meaning, as Markdown."""
    lines = [
        "# Keys of a recipe",
        "",
        "A recipe is a YAML file; `mlff train --example KIND` writes a commented one. `mlff train --schema KIND` prints the",
        "JSON schema of a kind, which editors use to complete and check keys. A key without a default is required.",
        "This page is written by `python docs/write_recipe_keys.py`.",
    ]
    told: dict[str, str] = {}
    for kind in kinds():
        schema = recipe_schema(kind)
        lines += ["", f"## Recipes of a {kind}", "", *_table(schema, schema)]
        for path, section in _sections(schema, schema):
            name = f"`{path}`" if path not in told.values() else f"`{path}` of a {kind}"
            table = [*_about(section), "", *_table(section, schema)]
            key = "\n".join(table)
            same = told.setdefault(key, path)
            lines += ["", f"### {name}", ""]
            lines += table if same == path else [f"As [`{same}`](#{_anchor(same)})."]
            for option in section.get("allOf", []):
                lines += _options(option, told)
    return "\n".join(lines) + "\n"


def _options(option: dict[str, Any], told: dict[str, str]) -> list[str]:
    """Table of a backbone's options, or only the rows that differ if a table of the same name is in `told`."""
    backbone, own = option["if"]["properties"]["name"]["const"], option["then"]["properties"]
    head, line, *rows = _table({"properties": {key: one for key, one in own.items() if key != "name"}}, {})
    name = f"Options of `{backbone}`"
    new = [row for row in rows if row not in told.get(name, "").split("\n")]
    words = f"{name} that differ from those above" if name in told else name
    told.setdefault(name, "\n".join(rows))
    return ["", f"{words}:", "", head, line, *new] if new else []


def _anchor(path: str) -> str:
    return re.sub(r"[^\w-]", "", path.lower())


def _about(schema: dict[str, Any]) -> list[str]:
    """Return the first paragraph of a class's docstring, on one line."""
    return [" ".join(schema.get("description", "").split("\n\n")[0].split())]


def _resolved(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Follow references to the schema they refer to."""
    while "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _choices(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """List the alternative schemas of a value, including those of the entries of lists."""
    found: list[dict[str, Any]] = []
    for one in schema.get("anyOf", [schema]):
        found += _choices(one["items"]) if one.get("type") == "array" and one.get("items") else [one]
    return found


def _sections(schema: dict[str, Any], whole: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Iterate over the sections below a schema with their paths, each kind of section once per parent."""
    told: list[int] = []
    for name, value in schema.get("properties", {}).items():
        for choice in _choices(value):
            section = _resolved(choice, whole)
            if "properties" not in section or id(section) in told:
                continue
            told.append(id(section))
            yield path + name, section
            yield from _sections(section, whole, f"{path}{name}.")


def _table(schema: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """Table of the keys of a section."""
    lines = ["| key | values | default | unit | meaning |", "|---|---|---|---|---|"]
    needed = schema.get("required", [])
    for name, value in schema["properties"].items():
        meaning = _about(value if "description" in value else _resolved(value, whole))[0]
        unit = _UNIT.search(meaning)
        default = "" if name in needed else f"`{_written(value.get('default', {}))}`"
        values = " or ".join(dict.fromkeys(_values(choice, whole) for choice in value.get("anyOf", [value])))
        cells = (f"`{name}`", values, default, unit["unit"] if unit else "", _UNIT.sub("", meaning))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _written(value: Any) -> str:  # noqa: ANN401
    """Write a value as in a recipe; a missing section has the defaults of an empty one."""
    return value if isinstance(value, str) else "{}" if isinstance(value, dict) else json.dumps(value)


def _values(schema: dict[str, Any], whole: dict[str, Any]) -> str:
    """Describe the valid values in a few words."""
    schema = _resolved(schema, whole)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{_written(one)}`" for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {' or '.join(dict.fromkeys(_values(one, whole) for one in _choices(schema['items'])))}"
    if "properties" in schema:
        return "section"
    words = {"boolean": "true, false", "integer": "whole number", "number": "number", "string": "text", "null": "`null`"}
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"{words.get(inner.get('type', ''), 'value')} by name" if isinstance(inner, dict) else "section"
    word = words.get(schema.get("type", ""), "value")
    marks = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return ", ".join([word, *(f"{text} {schema[key]:g}" for key, text in marks.items() if key in schema)])
