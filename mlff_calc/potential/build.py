"""Building a potential from a plain dict: every key is checked, every default written out."""

from __future__ import annotations

from typing import Any

from ase.data import chemical_symbols

from mlff_calc.backbones import is_fixed_point, resolve_backbone
from mlff_calc.errors import RecipeError
from mlff_calc.heads import resolve_heads
from mlff_calc.heads.base import HEADS
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.model import Potential

_KEYS = ("backbone", "elements", "reference_energies", "avg_num_neighbors", "heads")
_SHORT = ("scale", "forces", "repulsion", "head", "fields", "uncertainty")
"""Short keys that stand for a list of heads; most potentials need no others."""
ERROR_HEADS = ("energy_error", "force_error")
"""Heads that the short key `uncertainty` stands for; results have the deviations of both or of neither."""


def build_potential(config: dict[str, Any], seed: int | None = None) -> Potential:
    """Build a potential with new weights from a plain dict.

    Args:
        config: `backbone` (name and options), `elements` (atomic numbers or symbols), and optionally
            `reference_energies` (eV by atomic number or symbol), `avg_num_neighbors`, and `heads` (a list of names and
            options, `energy` first). Instead of `heads` the short keys `scale` (eV), `forces` (`gradient` or `direct`),
            `repulsion` (None or {"name": "zbl", "reach": 0.8}), `fields` (None or options of the head of that name) and
            `uncertainty` (None or options of the heads `energy_error` and `force_error`) may be given.
        seed: seed of the weights; None takes them from the present state of torch's generator.

    Raises:
        RecipeError: a key is missing or unknown, the backbone or an element is unknown, or an option is out of range.
    """
    for key in config:
        if key not in (*_KEYS, *_SHORT):
            msg = f"unknown key {key!r} in a potential's configuration; valid keys: {', '.join((*_KEYS, *_SHORT))}"
            raise RecipeError(msg)
    for key in ("backbone", "elements"):
        if not config.get(key):
            raise RecipeError(f"a potential's configuration needs {key!r}; it has {', '.join(config) or 'nothing'}")
    config = _resolved(config)
    _check_fields(config)
    kind = FixedPointPotential if is_fixed_point(config["backbone"]["name"]) else Potential
    return kind.seeded(config, seed)


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with every default written out, so that saved files survive a change of defaults.

    Raises:
        RecipeError: an option or element is unknown, or a value has the wrong type.
    """
    elements = config["elements"]
    if not isinstance(elements, (list, tuple)):
        raise RecipeError(f"elements is {elements!r} in a potential's configuration; give a list of symbols or numbers")
    numbers = sorted(atomic_number(element) for element in elements)
    backbone = config["backbone"]
    if isinstance(backbone, dict):
        backbone = {"avg_num_neighbors": config.get("avg_num_neighbors", 10.0), **backbone}
    return {
        "backbone": resolve_backbone(backbone),
        "elements": numbers,
        "reference_energies": _references(config, numbers),
        "heads": _heads(config),
    }


def _heads(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the list of heads, given as such or by the short keys.

    Raises:
        RecipeError: a value is not valid; the message names the value and the valid ones.
    """
    short = {key: config[key] for key in _SHORT if key in config}
    heads = config.get("heads")
    if heads is None:
        if short.get("forces", "gradient") not in ("gradient", "direct"):
            raise RecipeError(
                f"forces: {short['forces']!r} in a potential's configuration; choose 'gradient' or 'direct'"
            )
        repulsion, fields, uncertainty = (short.get(key) for key in ("repulsion", "fields", "uncertainty"))
        scale = {"scale": short.get("scale", 1.0)}
        for key, value in (("repulsion", repulsion), ("fields", fields), ("uncertainty", uncertainty)):
            if not isinstance(value, dict | None):
                raise RecipeError(f"{key} is {value!r} in a potential's configuration; give its options, or leave it out")
        heads = [{"name": "energy", **(short.get("head") or {}), **scale}]
        heads += [] if repulsion is None else [{"name": "zbl", **repulsion}]
        heads += [] if fields is None else [{"name": "fields", **fields, **scale}]
        heads += [{"name": "direct_forces", **scale}] if short.get("forces") == "direct" else []
        if uncertainty is not None:
            heads += error_heads(uncertainty, scale["scale"])
    elif short:
        raise RecipeError(f"{', '.join(short)} stand for heads in a potential's configuration; give either, not both")
    heads = resolve_heads(heads)
    if heads[:1] != [head for head in heads if head["name"] == "energy"]:
        names = ", ".join(head["name"] for head in heads) or "none"
        raise RecipeError(f"the heads of a potential are {names}; it needs 'energy', as the first one")
    found = [head["name"] for head in heads if head["name"] in ERROR_HEADS]
    if len(found) == 1:
        other = next(name for name in ERROR_HEADS if name not in found)
        raise RecipeError(
            f"the heads of a potential hold {found[0]!r} without {other!r}; give both, as `uncertainty` does, or neither"
        )
    for head in heads:
        if HEADS.parts[head["name"]].needs:
            needs = ", ".join(HEADS.parts[head["name"]].needs)
            raise RecipeError(f"head {head['name']!r} reads {needs}, which potentials are not given; leave it out")
    return heads


def _check_fields(config: dict[str, Any]) -> None:
    """Check that a head of fields has forces by gradient, and a backbone without a fixed point of its own.

    Raises:
        RecipeError: it has not.
    """
    names = [head["name"] for head in config["heads"]]
    if "fields" not in names:
        return
    if "direct_forces" in names:
        raise RecipeError(
            "`fields` act through the energy, and direct forces take no gradient of it; leave `fields` out, or write "
            "forces: gradient"
        )
    backbone = config["backbone"]["name"]
    if is_fixed_point(backbone):
        raise RecipeError(
            f"`fields` with backbone {backbone!r}: a potential has one fixed point; leave `fields` out, or take the "
            "explicit backbone that this one repeats"
        )


def error_heads(options: dict[str, Any], scale: float) -> list[dict[str, Any]]:
    """Return the heads that the short key `uncertainty` stands for.

    Args:
        options: Value of the key.
        scale: Scale of the potential, eV.
    """
    return [{"name": name, **options, "scale": scale} for name in ERROR_HEADS]


def _references(config: dict[str, Any], elements: list[int]) -> dict[str, float]:
    """Return reference energies by atomic number as text (JSON has no other keys); empty where none are given.

    Raises:
        RecipeError: an element lacks its reference energy, or a key is not an element.
    """
    given = config.get("reference_energies") or {}
    numbers = {int(k) if isinstance(k, str) and k.isdigit() else atomic_number(k): float(v) for k, v in given.items()}
    missing = [chemical_symbols[z] for z in elements if numbers and z not in numbers]
    if missing:
        raise RecipeError(f"reference_energies lacks {' '.join(missing)}; give one for every element, or none")
    return {str(z): numbers[z] for z in elements if numbers}


def atomic_number(element: int | str) -> int:
    """Return the atomic number of a symbol or number.

    Raises:
        RecipeError: there is no such element.
    """
    if isinstance(element, str) and element in chemical_symbols[1:]:
        return chemical_symbols.index(element)
    if isinstance(element, int) and 0 < element < 119:
        return element
    raise RecipeError(f"unknown element {element!r}; give a symbol such as 'Si' or an atomic number from 1 to 118")
