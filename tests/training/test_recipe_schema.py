"""The JSON schema of recipes, and the page of the documentation that is generated from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlff_calc.backbones import available_backbones
from mlff_calc.backbones.base import backbone_options
from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.training.kind_names import kinds
from mlff_calc.training.kinds import task_of
from mlff_calc.training.recipe_schema import recipe_page, recipe_schema

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipe_keys.md"


def resolved(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    return whole["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def check(value: Any, schema: dict[str, Any], whole: dict[str, Any], path: str) -> list[str]:
    """Return the parts of a value that violate the schema, for the keywords that schemas of recipes use."""
    schema = resolved(schema, whole)
    if "anyOf" in schema:
        found = [check(value, one, whole, path) for one in schema["anyOf"]]
        return [] if [] in found else [word for words in found for word in words]
    if "enum" in schema or "const" in schema:
        return [] if value in schema.get("enum", [schema.get("const")]) else [f"{path}: {value}"]
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    types["null"] = type(None)
    if "type" in schema and not isinstance(value, types[schema["type"]]):
        return [f"{path}: {value} is no {schema['type']}"]
    if isinstance(value, list):
        return [word for one in value for word in check(one, schema["items"], whole, path)]
    if not isinstance(value, dict):
        return []
    options = [one["then"] for one in schema.get("allOf", []) if one["if"]["properties"]["name"]["const"] == value["name"]]
    known = schema.get("properties", {}) | (options[0]["properties"] if options else {})
    unknown = [] if "properties" not in schema else sorted(value.keys() - known.keys())
    told = {key: one for key, one in value.items() if isinstance(known.get(key), dict)}
    inner = [check(one, known[key], whole, f"{path}.{key}") for key, one in told.items()]
    missing = sorted(set(schema.get("required", [])) - value.keys())
    return [f"{path}.{key}" for key in unknown + missing] + [word for words in inner for word in words]


@pytest.mark.parametrize("kind", ["potential", "propagator"])
def test_the_schema_accepts_the_example_and_refuses_invalid_recipes(kind: str) -> None:
    schema = recipe_schema(kind)
    recipe = yaml.safe_load(task_of(kind).example)
    assert check(recipe, schema, schema, "") == []
    wrong = yaml.safe_load(task_of(kind).example)
    wrong["optimizer"]["batchsize"] = 3
    wrong["trainer"]["seed"] = "none"
    wrong[kind]["backbone"]["chanels"] = 8
    said = check(wrong, schema, schema, "")
    assert {".optimizer.batchsize", ".trainer.seed: none is no integer", f".{kind}.backbone.chanels"} <= set(said)


def test_sources_of_data_in_every_form() -> None:
    schema = recipe_schema("potential")
    recipe = yaml.safe_load(task_of("potential").example)
    for train in ("a.xyz", {"file": ["a.xyz", "b.xyz"]}, ["a.xyz", {"file": "b.xyz", "index": ":10"}]):
        recipe["data"]["train"] = train
        assert check(recipe, schema, schema, "") == []
    for train in (3, {"fil": "a.xyz"}, [{"file": 3}]):
        recipe["data"]["train"] = train
        assert check(recipe, schema, schema, "")


@pytest.mark.parametrize("kind", kinds())
def test_every_key_is_described_and_named_on_the_page(kind: str) -> None:
    schema, page = recipe_schema(kind), PAGE.read_text(encoding="utf-8")
    sections = [schema, *schema["$defs"].values()]
    for section in sections:
        for key, value in section.get("properties", {}).items():
            assert value.get("description") or resolved(value, schema).get("description"), (section["title"], key)
            assert f"| `{key}` |" in page
    of_backbones = [section for section in sections if "allOf" in section]
    if kind in ("hamiltonian", "functional"):  # whose networks have no backbone
        assert not of_backbones
        return
    (backbone,) = of_backbones
    assert backbone["properties"]["name"]["enum"] == available_backbones()
    for option in backbone["allOf"]:
        name, properties = option["if"]["properties"]["name"]["const"], option["then"]["properties"]
        assert properties.keys() == {"name"} | backbone_options(name).keys()
        for key, value in properties.items():
            assert key == "name" or value["description"], (name, key)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == recipe_page(), "run: python docs/write_recipe_keys.py"


def test_the_command_prints_or_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(build_app(), ["train", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == recipe_schema("potential")
    target = tmp_path / "schema.json"
    assert run_cli(build_app(), ["train", "--schema", "propagator", "--output", str(target)]) == 0
    assert json.loads(target.read_text()) == recipe_schema("propagator")
    assert run_cli(build_app(), ["train", "--schema", "propagator", "--output", str(target)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert run_cli(build_app(), ["train", "--schema", "potental"]) == 1
    assert "did you mean 'potential'?" in capsys.readouterr().err
