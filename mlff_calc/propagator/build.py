"""Building a propagator from a plain dict: every key is checked, every default written out."""

from __future__ import annotations

import inspect
from typing import Any

from mlff_calc.backbones import resolve_backbone
from mlff_calc.errors import RecipeError
from mlff_calc.propagator.model import Propagator
from mlff_calc.registry import option_findings, with_defaults

DEFAULTS: dict[str, Any] = {
    "backbone": inspect.Parameter.empty,
    "kinds": inspect.Parameter.empty,
    "n_scalars": 0,
    "n_edge_scalars": 0,
    "length_scale": 1.0,
    "drift_scale": 1.0,
    "speed_scale": 1.0,
    "drift_share": 1.0,
    "scalar_scale": 1.0,
    "predict_velocities": False,
    "centre": False,
}


def build_propagator(config: dict[str, Any], seed: int | None = None) -> Propagator:
    """Build a propagator with new weights from a plain dict.

    Args:
        config: `backbone` (name and options), `kinds` (numbers from 1 to 118) and optionally `n_scalars`,
            `n_edge_scalars`, `length_scale`, `drift_scale` (lengths), `speed_scale` (length/time), `drift_share`,
            `scalar_scale`, `predict_velocities`, `centre`; `scales_of` measures the scales on training samples.
        seed: seed of the weights; None takes them from the present state of torch's generator.

    Raises:
        RecipeError: a key is missing or unknown, the backbone is unknown, or a value is out of range.
    """
    return Propagator.seeded(_resolved(config), seed)


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with every default written out.

    Raises:
        RecipeError: see `build_propagator`.
    """
    for key in ("backbone", "kinds"):
        if not config.get(key):
            raise RecipeError(f"a propagator's configuration needs {key!r}; it has {', '.join(config) or 'nothing'}")
    findings = option_findings(config, DEFAULTS, "a propagator")
    if findings:
        raise RecipeError("\n".join(findings.values()))
    whole = with_defaults(config, DEFAULTS)
    for key in ("n_scalars", "n_edge_scalars"):
        if whole[key] < 0:
            raise RecipeError(f"{key} of a propagator is {whole[key]}; give a whole number, at least 0")
    for key in ("length_scale", "drift_scale", "speed_scale", "scalar_scale"):
        if whole[key] <= 0.0:
            raise RecipeError(f"{key} of a propagator is {whole[key]}; give a positive number")
    kinds = sorted({_kind(kind) for kind in whole["kinds"]})
    return whole | {"backbone": resolve_backbone(whole["backbone"]), "kinds": kinds}


def _kind(kind: object) -> int:
    if isinstance(kind, int) and not isinstance(kind, bool) and 0 < kind < 119:
        return kind
    raise RecipeError(f"kinds holds {kind!r} in a propagator's configuration; give whole numbers from 1 to 118")
