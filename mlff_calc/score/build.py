"""Building a score model from a plain dict: every key is checked, every default written out."""

from __future__ import annotations

import inspect
from typing import Any

from mlff_calc.backbones import resolve_backbone
from mlff_calc.errors import RecipeError
from mlff_calc.networks.topology import checked_bonds, checked_numbers
from mlff_calc.registry import option_findings, with_defaults
from mlff_calc.score.model import ScoreModel

DEFAULTS: dict[str, Any] = {
    "backbone": inspect.Parameter.empty,
    "numbers": inspect.Parameter.empty,
    "bonds": [],
    "kT": 1.0,
    "information": 1.0,
    "spread": 1.0,
    "dimensions": 3,
    "sigma_min": 0.01,
    "sigma_max": 2.0,
    "spacing": "geometric",
    "target": "optimal",
    "window": None,
    "springs": [],
    "clip": None,
}


def build_score_model(config: dict[str, Any], seed: int | None = None) -> ScoreModel:
    """Build a score model with new weights from a plain dict.

    Args:
        config: `backbone` (name and options), `numbers` (atomic numbers of all atoms) and optionally `bonds` (pairs of
            atoms), `kT` (eV), `information` (1/Angstrom^2), `spread` (Angstrom), `dimensions` (2 or 3), `sigma_min`,
            `sigma_max` (Angstrom), `spacing`, `target`, `window`, `springs` ([i, j, constant], 1/Angstrom^2), `clip`
            (largest norm of F/kT of a frame in the target, 1/Angstrom).
        seed: Seed of the weights; None takes them from the present state of torch's generator.

    Raises:
        RecipeError: A key is missing or unknown, the backbone is unknown, or a value is out of range.
    """
    return ScoreModel.seeded(_resolved(config), seed)


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with every default written out."""
    for key in ("backbone", "numbers"):
        if not config.get(key):
            raise RecipeError(f"a score model's configuration needs {key!r}; it has {', '.join(config) or 'nothing'}")
    plain = {key: value for key, value in config.items() if key not in ("window", "clip", "bonds", "springs")}
    findings = option_findings(plain, DEFAULTS, "a score model")
    if findings:
        raise RecipeError("\n".join(findings.values()))
    whole = with_defaults(config, DEFAULTS)
    for key in ("kT", "spread", "information"):
        if not whole[key] > 0.0:
            raise RecipeError(f"{key} of a score model is {whole[key]}; give a positive number")
    if whole["clip"] is not None and not 0.0 < whole["clip"] < float("inf"):
        raise RecipeError(f"clip of a score model is {whole['clip']}; give a positive number, or None")
    if whole["dimensions"] not in (2, 3):
        raise RecipeError(f"dimensions of a score model is {whole['dimensions']}; give 2 or 3")
    numbers = checked_numbers(whole["numbers"], "a score model")
    return whole | {
        "backbone": resolve_backbone(whole["backbone"]),
        "numbers": numbers,
        "bonds": checked_bonds(whole["bonds"], len(numbers), "a score model"),
        "springs": [_spring(spring, len(numbers)) for spring in whole["springs"]],
    }


def _spring(spring: Any, n_atoms: int) -> list[int | float]:  # noqa: ANN401
    good = isinstance(spring, list | tuple) and len(spring) == 3 and isinstance(spring[2], float | int)
    if good and 0.0 < spring[2] < float("inf"):
        return [*checked_bonds([spring[:2]], n_atoms, "a score model")[0], float(spring[2])]
    raise RecipeError(f"springs holds {spring!r} in a score model's configuration; give [atom, atom, constant above 0]")
