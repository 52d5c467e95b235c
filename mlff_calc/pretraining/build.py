"""Building a network for pretraining from a plain dict: every key is checked, every default written out."""

from __future__ import annotations

import inspect
from typing import Any

from mlff_calc.backbones import is_fixed_point, resolve_backbone
from mlff_calc.errors import RecipeError
from mlff_calc.networks.elements import checked_elements
from mlff_calc.pretraining.model import PretrainingNetwork
from mlff_calc.pretraining.objectives import OBJECTIVES
from mlff_calc.registry import option_findings, with_defaults

DEFAULTS: dict[str, Any] = {
    "backbone": inspect.Parameter.empty,
    "objective": inspect.Parameter.empty,
    "elements": inspect.Parameter.empty,
    "references": {},
}


def build_pretraining(config: dict[str, Any], seed: int | None = None) -> PretrainingNetwork:
    """Build a network for pretraining with new weights from a plain dict.

    Args:
        config: `backbone` and `objective` (name and options), `elements` (atomic numbers), and for `supervised`
            `references`, the energy of each element by atomic number (eV).
        seed: Seed of the weights; None takes them from the present state of torch's generator.

    Raises:
        RecipeError: A key is missing or unknown, a part is unknown, or a value is out of range.
    """
    return PretrainingNetwork.seeded(_resolved(config), seed)


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with every default written out.

    Raises:
        RecipeError: See `build_pretraining`.
    """
    for key in ("backbone", "objective", "elements"):
        if not config.get(key):
            raise RecipeError(f"a configuration of pretraining needs {key!r}; it has {', '.join(config) or 'nothing'}")
    findings = option_findings(config, DEFAULTS, "pretraining")
    if findings:
        raise RecipeError("\n".join(findings.values()))
    whole = with_defaults(config, DEFAULTS)
    elements = checked_elements(whole["elements"], "a pretraining")
    references = {str(z): float(whole["references"].get(str(z), 0.0)) for z in elements}
    backbone, objective = resolve_backbone(whole["backbone"]), OBJECTIVES.resolve(whole["objective"])
    if is_fixed_point(backbone["name"]) and OBJECTIVES.part(objective["name"]).takes_forces:
        raise RecipeError(
            f"objective {objective['name']!r} needs forces, and those of backbone {backbone['name']!r} are a solve of their "
            "own; train a potential in its place, or take the objective denoising or georecon"
        )
    return whole | {"backbone": backbone, "objective": objective, "elements": elements, "references": references}

