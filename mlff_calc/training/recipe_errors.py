"""Translation of pydantic's findings about a recipe into messages that name file, key, value and cure."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mlff_calc.near import nearest
from mlff_calc.training.kind_names import kinds


def proposal(word: str, choices: list[str]) -> str:
    """Propose the choice nearest to `word`, and lists them all."""
    near, listed = nearest(word, choices, cutoff=0.5), ", ".join(choices)
    return f"did you mean {near!r}? (known here: {listed})" if near else f"known here: {listed}"


def describe_validation_error(
    error: ValidationError,
    model: type[BaseModel],
    data: dict[str, Any],
    origin: str,
    written: dict[str, Any] | None = None,
) -> str:
    """Describe each finding on one line: `file: dotted.key: fault; cure`.

    Args:
        error: Error of pydantic.
        model: Class of the recipe.
        data: Checked content, with today's keys.
        origin: File of the recipe.
        written: Content of the file, whose keys may be those of an earlier version; None for `data`.
    """
    lines: list[str] = []
    for finding in error.errors():
        path = _path_in_data(finding["loc"], data, missing=finding["type"] in ("missing", "extra_forbidden", "option"))
        dotted = ".".join(str(part) for part in path) + _place_before(path, data, written)
        place = f"{origin}: {dotted}" if dotted else origin
        line = f"{place}: {_explain(finding, path, model)}"
        if line not in lines:
            lines.append(line)
    return "\n".join(lines)


def _place_before(path: list[int | str], data: dict[str, Any], written: dict[str, Any] | None) -> str:
    """Where a key of a section stands in the file, where that is another place than today's; empty otherwise."""
    if written is None or len(path) != 2:
        return ""
    (section, key), sections = map(str, path), {name: held for name, held in written.items() if isinstance(held, dict)}
    if key in sections.get(section, {}) or key not in data.get(section, {}):
        return ""
    places = [f"{name}.{key}" for name, held in sections.items() if key in held]
    return f" (here still {places[0]})" if places else ""


def _path_in_data(loc: tuple[int | str, ...], data: Any, *, missing: bool) -> list[int | str]:  # noqa: ANN401
    """Reduce the location of a finding to keys in the data, dropping pydantic's tags for members of a union."""
    path: list[int | str] = []
    place = data
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        inside = dict(enumerate(place)) if isinstance(place, list) else place
        if isinstance(inside, dict) and part in inside:
            place = inside[part]
            path.append(part)
        elif last and missing:
            path.append(part)
    return path


def _fields_at(path: list[int | str], model: type[BaseModel]) -> list[str]:
    """List the keys of the section at a path."""
    for part in path:
        if isinstance(part, int):
            continue  # an entry of a list of sections
        field = model.model_fields.get(str(part))
        inner = _section_of(field.annotation) if field is not None else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _explain(finding: Any, path: list[int | str], model: type[BaseModel]) -> str:  # noqa: ANN401
    kind, value, context = finding["type"], finding["input"], finding.get("ctx", {})
    if kind == "extra_forbidden":
        known = _fields_at(path[:-1], model)
        return f"unknown key {str(path[-1])!r}; " + proposal(str(path[-1]), known)
    if kind == "missing":
        own = " ".join(["mlff train --example", *(name for name in kinds() if name in model.model_fields)])
        return f"this key is missing; `{own}` shows a whole recipe"
    if kind == "literal_error":
        return f"{value!r} is not a choice; give {context['expected']}"
    if kind == "option":
        return str(context["text"])
    if kind == "value_error":
        shown = "" if isinstance(value, dict | BaseModel) else f"{value!r}: "
        return shown + str(context["error"])
    bounds = {"greater_than": ("gt", ">"), "greater_than_equal": ("ge", ">=")}
    bounds |= {"less_than": ("lt", "<"), "less_than_equal": ("le", "<=")}
    if kind in bounds:
        name, sign = bounds[kind]
        return f"{value!r} is out of range; give a value {sign} {context[name]:g}"
    return f"{value!r} does not fit; {finding['msg'][0].lower()}{finding['msg'][1:]}"
