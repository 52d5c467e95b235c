"""State of a calculator for restart files: what earlier steps left, and the last structure with its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from mlff_calc.bounded import shorten
from mlff_calc.calculators.outputs import Results
from mlff_calc.calculators.snapshot import INPUTS, Snapshot
from mlff_calc.errors import SimulationError


def calculator_state(memories: Sequence[Any], last: Snapshot | None, results: Results) -> dict[str, Any]:
    """Collect memories, and the last structure with its results if there are any, in plain types and arrays.

    Args:
        memories: Memory of every member, in plain types and arrays.
        last: Structure of the last calculation; None before the first.
        results: Results for that structure.
    """
    state: dict[str, Any] = {"runs": list(memories)}
    if last is not None and results:
        frame, others = last.frame, last.others
        state["atoms"] = {name: getattr(frame, name).copy() for name in ("numbers", "positions", "pbc", "cell")}
        state["arrays"] = {name: others[name].copy() for name in INPUTS if name in others}
        state["results"] = dict(results)
    return state


def restore_state(state: dict[str, Any], loads: Sequence[Callable[[Any], None]]) -> tuple[Snapshot, Results] | None:
    """Restore memories from a state.

    Args:
        state: Dictionary from `calculator_state`.
        loads: What restores the memory of every member.

    Returns:
        The last structure and its results; None if the state has none.

    Raises:
        SimulationError: The state is damaged or belongs to another calculator.
    """
    try:
        for load, plain in zip(loads, state["runs"], strict=True):
            load(plain)
        if "results" not in state:
            return None
        atoms, results = _last_results(state)
        return Snapshot(atoms), results
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        reason = shorten(f"{type(error).__name__}: {error}", 200)
        raise SimulationError(
            f"the saved state of the calculator is damaged or of another calculator ({reason}). Start over with --overwrite."
        ) from error


def _last_results(state: dict[str, Any]) -> tuple[Atoms, dict[str, Any]]:
    """Read structure and results from the state of a calculator.

    Raises:
        KeyError, TypeError, ValueError: Entries are missing, have wrong shapes, or are not finite.
    """
    atoms = Atoms(**state["atoms"])
    for name, array in state.get("arrays", {}).items():
        atoms.set_array(name, np.asarray(array))
    results = dict(state["results"])
    shapes = {"energy": (), "free_energy": (), "forces": (len(atoms), 3), "stress": (6,), "energies": (len(atoms),)}
    for name in {"energy", "forces", *results}:
        found = np.asarray(results[name], dtype=float)
        if found.shape != shapes.get(name, found.shape) or not np.isfinite(found).all():
            raise ValueError(f"{name} has shape {list(found.shape)}, or is not finite")
    if not np.isfinite(atoms.positions).all():
        raise ValueError("positions are not finite")
    return atoms, results
