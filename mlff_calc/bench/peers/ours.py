"""The potential of this package in a paired run."""

from __future__ import annotations

from typing import Any

from ase import Atoms

from mlff_calc.bench.models import random_config, trained_potential
from mlff_calc.potential import load_potential


def loader_options(
    system: str, atoms: Atoms, *, potential: str | None, compiled: bool, precision: str
) -> tuple[dict[str, Any], str, float]:
    """Return the options with which the worker loads the potential of this package for a system.

    Args:
        system: Name of the system.
        atoms: Structure of the system.
        potential: Name or folder of a potential, used if it knows all elements of the structure.
        compiled: Whether to compile the potential.
        precision: Precision, as in `make_calculator`.

    Returns:
        Options of the loader, a label for tables, and the cutoff in Angstrom.
    """
    name = potential
    if name is None or not set(atoms.numbers.tolist()) <= set(load_potential(name).elements):
        name = trained_potential(system)
    options: dict[str, Any] = {"precision": precision, "compiled": compiled, "potential": name}
    if name is not None:
        return options, f"mlff_calc {name}", load_potential(name).cutoff
    config = random_config(atoms)
    return {**options, "config": config}, "mlff_calc, random weights", float(config["backbone"].get("cutoff", 5.0))
