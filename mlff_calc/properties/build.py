"""Building a property network from a plain dict: every key is checked, every default written out."""

from __future__ import annotations

import inspect
from typing import Any

from mlff_calc.backbones import resolve_backbone
from mlff_calc.errors import RecipeError
from mlff_calc.heads.base import HEADS
from mlff_calc.heads.properties import STANDARD_VALUE
from mlff_calc.networks.elements import checked_elements
from mlff_calc.properties.model import PropertyNetwork
from mlff_calc.properties.standard import POOLINGS
from mlff_calc.registry import option_findings, with_defaults

DEFAULTS: dict[str, Any] = {
    "backbone": inspect.Parameter.empty,
    "head": inspect.Parameter.empty,
    "elements": inspect.Parameter.empty,
    "pooling": "mean",
    "references": {},
    "mean": 0.0,
    "scale": 1.0,
    "name": "property",
    "unit": "",
    "charge": 0,
}


def build_property(config: dict[str, Any], seed: int | None = None) -> PropertyNetwork:
    """Build a property network with new weights from a plain dict.

    Args:
        config: `backbone` and `head` (name and options), `elements` (atomic numbers) and optionally `pooling`, `references`,
            `mean`, `scale` (`standard_of` measures them), `name` and `unit` of the property, and `charge` of the structures.
        seed: Seed of the weights; None takes them from the present state of torch's generator.

    Raises:
        RecipeError: A key is missing or unknown, a part is unknown, or a value is out of range.
    """
    return PropertyNetwork.seeded(_resolved(config), seed)


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with every default written out.

    Raises:
        RecipeError: See `build_property`.
    """
    for key in ("backbone", "head", "elements"):
        if not config.get(key):
            raise RecipeError(f"a property's configuration needs {key!r}; it has {', '.join(config) or 'nothing'}")
    findings = option_findings(config, DEFAULTS, "a property")
    if findings:
        raise RecipeError("\n".join(findings.values()))
    whole = with_defaults(config, DEFAULTS)
    if whole["pooling"] not in POOLINGS:
        raise RecipeError(f"pooling of a property is {whole['pooling']!r}; give one of {', '.join(POOLINGS)}")
    if not whole["scale"] > 0.0:
        raise RecipeError(f"scale of a property is {whole['scale']:g}; give a positive number")
    elements = checked_elements(whole["elements"], "a property")
    references = {str(z): float(whole["references"].get(str(z), 0.0)) for z in elements}
    head = HEADS.resolve(whole["head"])
    if STANDARD_VALUE not in HEADS.part(head["name"]).provides:
        able = sorted(name for name, part in HEADS.parts.items() if STANDARD_VALUE in part.provides)
        raise RecipeError(f"head {head['name']!r} gives no property; take {' or '.join(able)}")
    return whole | {
        "backbone": resolve_backbone(whole["backbone"]),
        "head": head,
        "elements": elements,
        "references": references,
    }

