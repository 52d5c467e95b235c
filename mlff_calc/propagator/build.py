"""From a plain dict to a propagator: every key checked, every default written out."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import Any

import torch

from mlff_calc.backbones import resolve_backbone
from mlff_calc.errors import RecipeError
from mlff_calc.propagator.model import Propagator

DEFAULTS: dict[str, Any] = {
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
_PLACE = "in a propagator's configuration"


def build_propagator(config: dict[str, Any], seed: int | None = None) -> Propagator:
    """Build a propagator with new weights from a plain dict.

    Args:
        config: `backbone` (name and options), `kinds` (numbers from 1 to 118) and optionally `n_scalars`,
            `n_edge_scalars`, `length_scale`, `drift_scale` (lengths), `speed_scale` (length/time), `drift_share`,
            `scalar_scale`, `predict_velocities`, `centre`; `scales_of` measures the scales on training samples.
        seed: seed of the weights; without one they come from torch's generator as it stands.

    Raises:
        RecipeError: a missing or unknown key, an unknown backbone, or a value out of range.
    """
    config = _resolved(config)
    if seed is None:
        return Propagator(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Propagator(config)


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with every default written out.

    Raises:
        RecipeError: see `build_propagator`.
    """
    known = ("backbone", "kinds", *DEFAULTS)
    for key in config:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(known)}"
            raise RecipeError(f"unknown key {key!r} {_PLACE}; {hint}")
    for key in ("backbone", "kinds"):
        if not config.get(key):
            raise RecipeError(f"a propagator's configuration needs {key!r}; it has {', '.join(config) or 'nothing'}")
    whole = DEFAULTS | config
    kinds = sorted({_kind(kind) for kind in whole["kinds"]})
    for key in ("n_scalars", "n_edge_scalars"):
        if not _is_whole(whole[key]):
            raise RecipeError(f"{key} is {whole[key]!r} {_PLACE}; give a whole number, at least 0")
    for key in ("length_scale", "drift_scale", "speed_scale", "scalar_scale"):
        if not (_is_number(whole[key]) and whole[key] > 0.0):
            raise RecipeError(f"{key} is {whole[key]!r} {_PLACE}; give a positive number")
    if not _is_number(whole["drift_share"]):
        raise RecipeError(f"drift_share is {whole['drift_share']!r} {_PLACE}; give a finite number")
    for key in ("predict_velocities", "centre"):
        if not isinstance(whole[key], bool):
            raise RecipeError(f"{key} is {whole[key]!r} {_PLACE}; give true or false")
    numbers = {
        key: float(whole[key]) for key in ("length_scale", "drift_scale", "speed_scale", "drift_share", "scalar_scale")
    }
    backbone = {"backbone": resolve_backbone(whole["backbone"]), "kinds": kinds}
    return backbone | {key: numbers.get(key, whole[key]) for key in DEFAULTS}


def _kind(kind: object) -> int:
    if isinstance(kind, int) and not isinstance(kind, bool) and 0 < kind < 119:
        return kind
    raise RecipeError(f"kinds holds {kind!r} {_PLACE}; give whole numbers from 1 to 118")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
