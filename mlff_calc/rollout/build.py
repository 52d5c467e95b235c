"""Building a rollout from a plain dict: every key is checked, every default written out."""

from __future__ import annotations

import hashlib
import inspect
import json
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from mlff_calc.backbones import resolve_backbone
from mlff_calc.bounded import shorten
from mlff_calc.errors import OptionError, RecipeError
from mlff_calc.near import suggestion
from mlff_calc.networks.topology import checked_bonds, checked_numbers
from mlff_calc.registry import option_findings, with_defaults
from mlff_calc.rollout.base import BASES
from mlff_calc.rollout.model import Rollout, solver_of
from mlff_calc.rollout.spectrum import pieces

SOLVERS: dict[str, dict[str, Any]] = {
    "dopri5": {"rtol": 1e-3, "atol": 1e-3, "step": 1.0, "max_steps": 500},
    "rk4": {"step": 0.25, "max_steps": 500},
    "exact": {},
}
"""Options of each solver and their defaults."""
DEFAULTS: dict[str, Any] = {
    "backbone": inspect.Parameter.empty,
    "numbers": inspect.Parameter.empty,
    "bonds": inspect.Parameter.empty,
    "masses": inspect.Parameter.empty,
    "horizon": inspect.Parameter.empty,
    "graph": "",
    "heavy_atoms": False,
    "base": "harmonic",
    "straight": [],
    "base_step": 0.5,
    "basis": "graph",
    "hops": 2,
    "modes": None,
    "eigenspaces": None,
    "ode": True,
    "order": 2,
    "vectors": 4,
    "scalars": 24,
    "width": 32,
    "layers": 1,
    "solver": "dopri5",
    "length_scale": 1.0,
    "time_scale": 10.0,
    "velocity_scale": None,
    "extent": 1.0,
    "error_scale": 1.0,
    "speed_scale": 1.0,
    "n_vibrations": 0,
    "n_table": 2,
    "n_knots": 17,
    "spacing": 1.0,
}
_FREE = ("velocity_scale", "modes", "eigenspaces", "straight", "numbers", "bonds", "masses", "solver", "backbone")
LISTS = ("numbers", "bonds", "masses")
_COUNTS = {"hops": (1, 2), "order": (1, 2), "vectors": (2, 64), "scalars": (1, 1024), "width": (1, 1024), "layers": (0, 16),
           "n_vibrations": (0, 3000), "n_table": (2, 100_000), "n_knots": (2, 1000)}  # fmt: skip


def build_rollout(config: dict[str, Any], seed: int | None = None) -> Rollout:
    """Build a rollout with new weights from a plain dict.

    Args:
        config: `backbone` (name and options), `numbers` (atomic numbers), `bonds` (pairs of atoms), `masses`, `horizon`
            (fs), and optionally `base`, `basis` (graph or atoms), `hops`, `modes` or `eigenspaces`, `ode`, `order`,
            `vectors`, `scalars`, `width`, `layers`, `solver` (name, rtol, atol, step, max_steps), `graph` (hash of
            numbers and bonds), `straight` and `base_step` (of the base `valence`), and measured scales.
        seed: Seed of the weights; None takes them from the present state of torch's generator.

    Raises:
        RecipeError: A key is missing or unknown, a value is out of range, the graph is in pieces, or a cut goes through an
            eigenspace.
    """
    return Rollout.seeded(_resolved(config), seed)


def graph_hash(numbers: list[int], bonds: list[list[int]], hops: int) -> str:
    """SHA-256 of atoms, bonds and hops, which tells isomers and orders of atoms apart."""
    return hashlib.sha256(json.dumps([numbers, sorted(bonds), hops]).encode()).hexdigest()


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with every default written out."""
    config = dict(config)
    for key in ("backbone", "numbers", "bonds", "masses", "horizon"):
        if config.get(key) is None or (key in LISTS and not len(_list(config, key))):
            raise RecipeError(f"a rollout's configuration needs {key!r}; it has {', '.join(config) or 'nothing'}")
    config |= {key: _list(config, key) for key in LISTS}
    plain, defaults = ({key: value for key, value in each.items() if key not in _FREE} for each in (config, DEFAULTS))
    findings = option_findings(plain, defaults, "a rollout")
    if findings:
        raise RecipeError("\n".join(findings.values()))
    whole = with_defaults(plain, defaults) | {key: config.get(key, DEFAULTS[key]) for key in _FREE}
    _check_choices(whole)
    whole["horizon"] = _number(whole["horizon"], "horizon")
    scales = ["horizon", "length_scale", "time_scale", "extent", "error_scale", "speed_scale", "spacing", "base_step"]
    if whole["velocity_scale"] is not None:
        whole["velocity_scale"] = _number(whole["velocity_scale"], "velocity_scale")
        scales.append("velocity_scale")
    for key in scales:
        if not 0.0 < whole[key] < float("inf"):
            raise RecipeError(f"{key} of a rollout is {whole[key]}; give a positive number")
    whole["velocity_scale"] = whole["velocity_scale"] or whole["length_scale"] / whole["time_scale"]
    numbers = checked_numbers(whole["numbers"], "a rollout")
    pairs = checked_bonds(whole["bonds"], len(numbers), "a rollout")
    bonds = [list(pair) for pair in dict.fromkeys(map(tuple, pairs))]
    masses = whole["masses"]
    good = all(isinstance(mass, Real) and not isinstance(mass, bool) and 0.0 < float(mass) < float("inf") for mass in masses)
    if len(masses) != len(numbers) or not good:
        raise RecipeError(f"masses of a rollout are {masses}; give a positive number for each of {len(numbers)} atoms")
    masses = [float(mass) for mass in masses]
    check_connected(numbers, bonds, heavy_atoms=whole["heavy_atoms"])
    straight = [checked_angle(angle, len(numbers)) for angle in whole["straight"]]
    mark = graph_hash(numbers, bonds, whole["hops"])
    if whole["graph"] not in ("", mark):
        raise RecipeError("graph of a rollout is the hash of other atoms, bonds or hops; they were changed by hand")
    return whole | {
        "backbone": resolve_backbone(whole["backbone"]), "numbers": numbers, "bonds": bonds, "masses": masses,
        "solver": _solver(whole["solver"]), "graph": mark, "straight": straight,
    }  # fmt: skip


def _number(value: Any, key: str) -> float:  # noqa: ANN401
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    raise RecipeError(f"{key} of a rollout is {value!r}; give a positive number")


def _list(config: dict[str, Any], key: str) -> list[Any]:
    """Return a list of a configuration, which may be an array.

    Raises:
        RecipeError: It is something else.
    """
    value = config[key]
    value = value.tolist() if isinstance(value, np.ndarray | Tensor) else value
    if not isinstance(value, list | tuple):
        raise RecipeError(f"{key} of a rollout is {shorten(value)}; give a list")
    return list(value)


def checked_angle(angle: Any, n_atoms: int) -> list[int]:  # noqa: ANN401
    """Return a straight angle as three numbers of atoms.

    Raises:
        RecipeError: It is something else.
    """
    if isinstance(angle, list | tuple) and len(angle) == 3 and all(isinstance(k, int) and 0 <= k < n_atoms for k in angle):
        return list(angle)
    raise RecipeError(f"straight of a rollout holds {angle!r}; give three numbers of atoms from 0 to {n_atoms - 1}")


def check_connected(numbers: list[int], bonds: list[list[int]], *, heavy_atoms: bool) -> None:
    """Refuse a graph in pieces.

    Args:
        numbers: Atomic numbers.
        bonds: Pairs of bonded atoms.
        heavy_atoms: Whether hydrogens were left out, which may have joined the pieces.

    Raises:
        RecipeError: Atoms are not joined by bonds; the message names the atoms of a piece.
    """
    found = pieces(len(numbers), bonds)
    if len(found) > 1:
        small = min(found, key=len)
        cure = ", or keep the hydrogens" if heavy_atoms else ""
        raise RecipeError(
            f"the bonds leave {len(found)} pieces, of which one is the atoms {', '.join(map(str, small))}; a rollout knows "
            f"one molecule: give frames in which it is whole{cure}"
        )


def _check_choices(whole: dict[str, Any]) -> None:
    for key, choices in (("base", BASES), ("basis", ("graph", "atoms"))):
        if whole[key] not in choices:
            hint = suggestion(str(whole[key]), choices, after=" ")
            raise RecipeError(f"{key} of a rollout is {whole[key]!r}: {hint}Known are {', '.join(choices)}")
    for key, (low, high) in _COUNTS.items():
        if not (isinstance(whole[key], int) and low <= whole[key] <= high):
            raise RecipeError(f"{key} of a rollout is {whole[key]}; give a whole number from {low} to {high}")
    if whole["modes"] is not None and whole["eigenspaces"] is not None:
        raise RecipeError("a rollout has both `modes` and `eigenspaces`; give one of them")
    if whole["basis"] == "atoms" and (whole["modes"] or whole["eigenspaces"]):
        raise RecipeError("basis: atoms of a rollout keeps all atoms; leave `modes` and `eigenspaces` out")
    for key in ("modes", "eigenspaces"):
        value = whole[key]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise RecipeError(f"{key} of a rollout is {value!r}; give a whole number above 0, or leave it out for all")


def _solver(options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the solver with every default written out."""
    given = {"name": options} if isinstance(options, str) else options
    if not isinstance(given, dict):
        raise RecipeError(f"solver of a rollout is {options!r}; give a name, or name, rtol, atol, step and max_steps")
    name = given.get("name", "dopri5")
    if name not in SOLVERS:
        raise RecipeError(f"solver of a rollout is {name!r}; known are {', '.join(SOLVERS)}")
    unknown = sorted(set(given) - {"name", *SOLVERS[name]})
    if unknown:
        known = ", ".join(SOLVERS[name]) or "none"
        raise RecipeError(f"solver {name} of a rollout has no option {unknown[0]!r}; its options are {known}")
    whole = {"name": name} | SOLVERS[name] | given
    try:
        solver_of(whole)
    except (OptionError, TypeError) as error:
        raise RecipeError(f"solver of a rollout: {error}") from error
    return whole
