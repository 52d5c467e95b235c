"""Building a learned functional from a plain dict: every key is checked, every default written out."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from ase.data import chemical_symbols

from mlff_calc.electronic.functional.bases import BASES
from mlff_calc.electronic.functional.model import FunctionalNetwork
from mlff_calc.errors import RecipeError
from mlff_calc.near import suggestion
from mlff_calc.registry import check_ranges, option_findings, with_defaults

DEFAULTS: dict[str, Any] = {
    "base": "pbe",
    "basis": inspect.Parameter.empty,
    "grid_level": 1,
    "elements": inspect.Parameter.empty,
    "cutoff": 5.0,
    "l_max": 1,
    "filters": 8,
    "channels": 16,
    "layers": 1,
    "width": 16,
    "avg_num_neighbors": 3.0,
    "reweight": "nonlocal",
    "readout": True,
    "constants": {},
    "base_constants": {},
    "level": "",
    "charges": [0],
}
REWEIGHTS = ("nonlocal", "local", "none")
LARGEST = {"grid_level": 9, "cutoff": 100.0, "l_max": 8, "filters": 1024, "channels": 4096, "layers": 64, "width": 4096}
SMALLEST = {"grid_level": 0, "l_max": 0, "filters": 1, "channels": 1, "layers": 0, "width": 1}
_OWNER = "a functional"


def build_functional(config: dict[str, Any], seed: int | None = None) -> FunctionalNetwork:
    """Build a functional with new weights, which is its base functional, from a plain dict.

    Args:
        config: `basis` (name of the basis of orbitals), `elements` (atomic numbers) and optionally `base` (`lda`, `pbe`,
            `r2scan`), `grid_level` (of PySCF's grids, without pruning), `cutoff` (from nuclei, Bohr), `l_max`, `filters`
            (radial functions), `channels` (features per component), `layers` (of messages; 0 for none), `width` (of
            perceptrons), `avg_num_neighbors`, `reweight` (`nonlocal`, `local` for weights from the density at the point
            alone, `none`), `readout` (energies of atoms), `constants` (Hartree, by atomic number),
            `base_constants` (those of the base functional alone, where they are others), `level` (of the energies of
            the training, in words) and `charges` (of molecules of the training, e).
        seed: Seed of the weights; None takes them from the present state of torch's generator.

    Raises:
        RecipeError: A key is missing or unknown, or a value is out of range.
    """
    return FunctionalNetwork.seeded(resolve_functional(config), seed)


def resolve_functional(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with every default written out; arguments and errors are those of `build_functional`."""
    findings = option_findings(config, DEFAULTS, _OWNER, LARGEST)
    if findings:
        raise RecipeError("\n".join(findings.values()))
    whole = with_defaults(config, DEFAULTS)
    check_ranges(whole, _OWNER, SMALLEST, ("cutoff", "avg_num_neighbors"))
    for key, allowed in (("base", tuple(BASES)), ("reweight", REWEIGHTS)):
        if whole[key] not in allowed:
            hint = suggestion(whole[key], allowed, before="; ")
            raise RecipeError(f"{key} of {_OWNER} is {whole[key]!r}; give {', '.join(allowed)}{hint}")
    if not isinstance(whole["basis"], str) or not whole["basis"].strip():
        raise RecipeError(f"basis of {_OWNER} is {whole['basis']!r}; give a name of PySCF, like 6-31g*")
    elements = whole["elements"]
    if not isinstance(elements, list | tuple) or not elements or not all(_is_element(one) for one in elements):
        raise RecipeError(f"elements of {_OWNER} is {elements!r}; give a list of atomic numbers")
    charges = whole["charges"]
    if not isinstance(charges, list | tuple) or not charges or not all(type(one) is int for one in charges):
        raise RecipeError(f"charges of {_OWNER} is {charges!r}; give a list of whole numbers, e")
    constants = {key: _constants(whole[key]) for key in ("constants", "base_constants")}
    return whole | {"elements": sorted({int(one) for one in elements}), "charges": sorted(set(charges)), **constants}


def _constants(given: Mapping[Any, Any]) -> dict[str, float]:
    """Constants by atomic number as a text, which JSON keeps."""
    found: dict[str, float] = {}
    for number, value in given.items():
        plain = str(number)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (plain.isdigit() and _is_element(int(plain)) and is_number):
            raise RecipeError(f"constants of {_OWNER} have {number!r}: {value!r}; give Hartree by atomic number")
        if not math.isfinite(value):
            raise RecipeError(f"the constant of element {plain} of {_OWNER} is {value}; give a finite number, Hartree")
        found[plain] = float(value)
    return found


def _is_element(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number < len(chemical_symbols)
