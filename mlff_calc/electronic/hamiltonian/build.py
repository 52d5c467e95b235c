"""Building a network for Fock matrices from a plain dict: every key is checked, every default written out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mlff_calc.electronic.hamiltonian.model import HamiltonianNetwork
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import OptionError, OrbitalError, RecipeError
from mlff_calc.registry import check_ranges, option_findings, with_defaults

DEFAULTS: dict[str, Any] = {
    "basis": inspect.Parameter.empty,
    "settings": {},
    "charge": 0,
    "target": "initial",
    "inputs": [],
    "l_max": 4,
    "channels": 24,
    "hidden": 48,
    "products": 16,
    "product_target": "atoms",
    "layers": 3,
    "scalars": 32,
    "n_basis": 16,
    "cutoff": 6.0,
    "pair_cutoff": 10.0,
    "avg_num_neighbors": 10.0,
    "flow": {},
}
TARGETS, INPUTS, PRODUCTS, PRIORS = ("initial", "means"), ("overlap", "initial"), ("atoms", "pairs"), ("goe", "expansion")
LARGEST = {"l_max": 8, "channels": 4096, "hidden": 4096, "products": 4096, "layers": 64, "scalars": 4096, "n_basis": 1024}
SMALLEST = {"l_max": 1, "channels": 1, "hidden": 1, "products": 0, "layers": 1, "scalars": 1, "n_basis": 1}
FLOW_DEFAULTS: dict[str, Any] = {"prior": inspect.Parameter.empty, "steps": 3, "size": 1.0}
_OWNER = "a network for Fock matrices"


def build_hamiltonian(config: dict[str, Any], seed: int | None = None) -> HamiltonianNetwork:
    """Build a network with new weights from a plain dict.

    Args:
        config: `basis` (plain `OrbitalBasis`) and optionally `settings` (plain `SCFSettings`), `charge` (e), `target`
            (`initial` for what is added to the Fock matrix of an initial density, or `means`), `inputs` (matrices that
            are read: `overlap`, `initial`), `l_max`, `channels` (of atoms), `hidden` (width of pairs), `products` (width
            of tensor products; 0 for none), `product_target` (`atoms` for atoms and pairs, or `pairs`), `layers`,
            `scalars` (of pairs), `n_basis`, `cutoff` (of messages, Angstrom), `pair_cutoff` (of blocks, Angstrom, at
            least `cutoff`), `avg_num_neighbors`, `flow` (`prior` goe or expansion, `steps`, `size` of the noise; {} for
            none).
        seed: Seed of the weights; None takes them from the present state of torch's generator.

    Raises:
        RecipeError: A key is missing or unknown, or a value is out of range.
    """
    return HamiltonianNetwork.seeded(resolve_hamiltonian(config), seed)


def resolve_hamiltonian(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with every default written out; arguments and errors are those of `build_hamiltonian`."""
    findings = option_findings(config, DEFAULTS, _OWNER, LARGEST)
    if findings:
        raise RecipeError("\n".join(findings.values()))
    whole = with_defaults(config, DEFAULTS)
    check_ranges(whole, _OWNER, SMALLEST, ("cutoff", "avg_num_neighbors"))
    if whole["pair_cutoff"] < whole["cutoff"]:
        raise RecipeError(
            f"pair_cutoff of {_OWNER} is {whole['pair_cutoff']:g} Angstrom, below cutoff, {whole['cutoff']:g}; "
            "messages go between pairs: raise it, or lower cutoff"
        )
    for key, allowed in (("target", TARGETS), ("product_target", PRODUCTS)):
        if whole[key] not in allowed:
            raise RecipeError(f"{key} of {_OWNER} is {whole[key]!r}; give {' or '.join(allowed)}")
    if not set(whole["inputs"]) <= set(INPUTS) or len(set(whole["inputs"])) < len(whole["inputs"]):
        raise RecipeError(f"inputs of {_OWNER} is {whole['inputs']!r}; give each of {', '.join(INPUTS)} at most once")
    try:
        basis = OrbitalBasis.from_dict(whole["basis"])
    except OrbitalError as error:
        raise RecipeError(f"basis of {_OWNER}: {error}") from error
    highest = basis.l_max
    if whole["l_max"] < highest:
        raise RecipeError(
            f"l_max of {_OWNER} is {whole['l_max']}, below the degree {highest} of orbitals of the basis; give at least "
            f"{highest}, or {2 * highest} to lose no part of a block"
        )
    try:
        settings = SCFSettings.from_dict(whole["settings"]).to_dict() if whole["settings"] else {}
    except OptionError as error:
        raise RecipeError(f"settings of {_OWNER}: {error}") from error
    return whole | {"basis": basis.to_dict(), "settings": settings, "flow": _checked_flow(whole["flow"])}


def _checked_flow(flow: Mapping[str, Any]) -> dict[str, Any]:
    """The flow with every default written out; empty where there is none."""
    if not flow:
        return {}
    findings = option_findings(flow, FLOW_DEFAULTS, "the flow", {"steps": 1000})
    if findings:
        raise RecipeError("\n".join(findings.values()))
    whole = with_defaults(flow, FLOW_DEFAULTS)
    if whole["prior"] not in PRIORS:
        raise RecipeError(f"prior of the flow is {whole['prior']!r}; give {' or '.join(PRIORS)}")
    if whole["steps"] < 1 or not whole["size"] > 0.0:
        raise RecipeError(f"the flow has steps {whole['steps']} and size {whole['size']:g}; give positive numbers")
    return whole
