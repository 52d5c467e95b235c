"""Options of a backbone with their meanings, read from the docstring of its class."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

from mlff_calc.backbones.base import available_backbones, backbone_class, backbone_options

_SECTION = re.compile(r"^Args:\n(?P<text>.*?)(?=^\w+:$|\Z)", flags=re.MULTILINE | re.DOTALL)
_SEE = re.compile(r"see `(\w+)`")


@dataclass(frozen=True)
class Option:
    """An option of a backbone.

    Attributes:
        default: Default value; `inspect.Parameter.empty` where there is none.
        meaning: Description in the docstring, on one line; empty where there is none.
    """

    default: Any
    meaning: str


def described_options(name: str) -> dict[str, Option]:
    """Return the options of a registered backbone by name, in the order of its signature.

    Raises:
        RecipeError: There is no backbone of that name.
    """
    options = backbone_options(name)
    meanings: dict[str, str] = {}
    for other in [backbone_class(name), *map(backbone_class, reversed(available_backbones()))]:
        meanings = _meanings(other) | meanings  # what a part lacks are options of another one that it repeats
    return {key: Option(default, meanings.get(key, "")) for key, default in options.items()}


def _meanings(backbone: type) -> dict[str, str]:
    """Text of each option in the section `Args`. An entry may describe several options, or refer to another class."""
    found = _SECTION.search(inspect.getdoc(backbone) or "")
    words = " ".join(found["text"].split()) if found else ""
    every = "|".join(map(re.escape, inspect.signature(backbone).parameters))
    starts = list(re.finditer(rf"(?<![\w`])(?P<names>(?:{every})(?:, (?:{every}))*): ", words))
    meanings: dict[str, str] = {}
    for start, end in zip(starts, [*(other.start() for other in starts[1:]), len(words)], strict=True):
        text = words[start.end() : end].strip().rstrip(".")
        other = _SEE.match(text)
        referred = next((c for c in map(backbone_class, available_backbones()) if other and c.__name__ == other[1]), None)
        for name in start["names"].split(", "):
            meanings[name] = text if referred is None else _meanings(referred).get(name, "")
    return {name: text[:1].upper() + text[1:] for name, text in meanings.items()}
