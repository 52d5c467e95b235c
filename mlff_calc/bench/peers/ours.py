"""Our own potential in a paired run."""

from __future__ import annotations

from typing import Any

from ase import Atoms

from mlff_calc.bench.models import random_config, trained_potential
from mlff_calc.potential import load_potential


def loader_options(
    system: str, atoms: Atoms, *, potential: str | None, compiled: bool, precision: str
) -> tuple[dict[str, Any], str, float]:
    """How the worker loads our potential for a system.

    Args:
        system: its name.
        atoms: its structure.
        potential: a name or folder, taken where it knows all elements of the structure.
        compiled: as in `make_calculator`.
        precision: as in `make_calculator`.

    Returns:
        Options of the worker's loader, what to call it, and its cutoff in Angstrom.
    """
    name = potential
    if name is None or not set(atoms.numbers.tolist()) <= set(load_potential(name).elements):
        name = trained_potential(system)
    options: dict[str, Any] = {"precision": precision, "compiled": compiled, "potential": name}
    if name is not None:
        return options, f"mlff_calc {name}", load_potential(name).cutoff
    config = random_config(atoms)
    return {**options, "config": config}, "mlff_calc, random weights", float(config["backbone"].get("cutoff", 5.0))
