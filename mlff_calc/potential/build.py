"""From a plain dict to a potential: every key checked, every default written out."""

from __future__ import annotations

import math
from typing import Any

import torch
from ase.data import chemical_symbols

from mlff_calc.backbones import is_fixed_point, resolve_backbone
from mlff_calc.errors import RecipeError
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.model import REPULSION, Potential

_TOP_LEVEL = (
    "backbone", "elements", "reference_energies", "scale", "avg_num_neighbors", "forces", "repulsion", "head",
)  # fmt: skip


def build_potential(config: dict[str, Any], seed: int | None = None) -> Potential:
    """Build a potential with new weights from a plain dict.

    Args:
        config: `backbone` (name and options), `elements` (atomic numbers or symbols), and optionally
            `reference_energies`
            (eV by atomic number or symbol), `scale` (eV), `avg_num_neighbors`, `forces` (`gradient` or `direct`),
            `repulsion`
            (None or {"name": "zbl", "reach": 0.8}).
        seed: seed of the weights; without one they come from torch's generator as it stands.

    Raises:
        RecipeError: a missing or unknown key, an unknown backbone or element, or an option out of range.
    """
    for key in config:
        if key not in _TOP_LEVEL:
            msg = f"unknown key {key!r} in a potential's configuration; valid keys: {', '.join(_TOP_LEVEL)}"
            raise RecipeError(msg)
    _check_parts(config)
    for key in ("backbone", "elements"):
        if not config.get(key):
            msg = f"a potential's configuration needs {key!r}; it has {', '.join(config) or 'nothing'}"
            raise RecipeError(msg)
    if config.get("forces", "gradient") not in ("gradient", "direct"):
        msg = f"forces: {config['forces']!r} in a potential's configuration; choose 'gradient' or 'direct'"
        raise RecipeError(msg)
    config = _resolved(config)
    kind = FixedPointPotential if is_fixed_point(config["backbone"]["name"]) else Potential
    if seed is None:
        return kind(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config)


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with every default written out: what is saved keeps its meaning when a default changes.

    Raises:
        RecipeError: an unknown option or element, or a value of the wrong type.
    """
    elements, scale = config["elements"], config.get("scale", 1.0)
    if not isinstance(elements, (list, tuple)):
        raise RecipeError(f"elements is {elements!r} in a potential's configuration; give a list of symbols or numbers")
    if not _is_number(scale):
        raise RecipeError(f"scale is {scale!r} in a potential's configuration; give a finite number of eV")
    numbers = sorted(atomic_number(element) for element in elements)
    backbone = config["backbone"]
    if isinstance(backbone, dict):
        backbone = {"avg_num_neighbors": config.get("avg_num_neighbors", 10.0), **backbone}
    repulsion = config.get("repulsion")
    return {
        "backbone": resolve_backbone(backbone),
        "elements": numbers,
        "reference_energies": _references(config, numbers),
        "scale": float(scale),
        "forces": config.get("forces", "gradient"),
        "head": {"name": "energy"},
        "repulsion": None if repulsion is None else {**REPULSION, **repulsion},
    }


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _references(config: dict[str, Any], elements: list[int]) -> dict[str, float]:
    """Reference energies by atomic number as text (JSON has no other keys); empty where none are given.

    Raises:
        RecipeError: an element without one, or no element at all.
    """
    given = config.get("reference_energies") or {}
    numbers = {int(k) if isinstance(k, str) and k.isdigit() else atomic_number(k): float(v) for k, v in given.items()}
    missing = [chemical_symbols[z] for z in elements if numbers and z not in numbers]
    if missing:
        msg = f"reference_energies lacks {' '.join(missing)}; give one for every element, or none"
        raise RecipeError(msg)
    return {str(z): numbers[z] for z in elements if numbers}


def _check_parts(config: dict[str, Any]) -> None:
    """Names and options of head and repulsion.

    Raises:
        RecipeError: names the value and what is valid.
    """
    head = (config.get("head") or {}).get("name", "energy")
    if head != "energy":
        msg = f"unknown head {head!r} in a potential's configuration; a potential needs the head 'energy'"
        raise RecipeError(msg)
    repulsion = config.get("repulsion") or {}
    if not isinstance(repulsion, dict):
        msg = f"repulsion is {repulsion!r} in a potential's configuration; give a name and options, or leave it out"
        raise RecipeError(msg)
    if repulsion.get("name", "zbl") != "zbl":
        msg = f"unknown repulsion {repulsion['name']!r} in a potential's configuration; available: 'zbl'"
        raise RecipeError(msg)
    for key in repulsion:
        if key not in ("name", "reach"):
            msg = f"unknown option {key!r} of repulsion 'zbl' in a potential's configuration; valid: 'reach'"
            raise RecipeError(msg)
    reach = repulsion.get("reach", REPULSION["reach"])
    if not (_is_number(reach) and reach > 0.0):
        msg = f"reach = {reach!r} of repulsion 'zbl'; it must be a positive number"
        raise RecipeError(msg)


def atomic_number(element: int | str) -> int:
    """Atomic number of a symbol or number.

    Raises:
        RecipeError: no such element.
    """
    if isinstance(element, str) and element in chemical_symbols[1:]:
        return chemical_symbols.index(element)
    if isinstance(element, int) and 0 < element < 119:
        return element
    msg = f"unknown element {element!r}; give a symbol such as 'Si' or an atomic number from 1 to 118"
    raise RecipeError(msg)
