"""Conditions that stop a run: values that are not finite, an exploding temperature, a committee that disagrees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ase import Atoms

from mlff_calc.errors import OptionError, StructureError

_SMALLER_STEP = (
    "Relax the structure first, use a shorter timestep, or look at whether the potential knows such structures."
)


def find_trouble(
    atoms: Atoms, results: dict[str, Any], temperature_K: float, limit_K: float, threshold: float | None
) -> str | None:
    """Describe what is wrong with the current step, if anything.

    Args:
        atoms: Structure at this step.
        results: Results of the calculator; `forces_std` [n_atoms] or [n_atoms, 3] is the spread of a committee, or the
            standard deviation that a potential with heads of errors gives.
        temperature_K: Temperature at this step, K.
        limit_K: Temperature above which the run counts as exploding, K.
        threshold: Largest accepted spread of a force, eV/Angstrom; None skips this check.

    Returns:
        A sentence with the cure, or None where nothing is wrong.

    Raises:
        OptionError: A threshold is set, and the calculator gives no `forces_std`.
    """
    if not math.isfinite(results.get("energy", 0.0)):
        return f"the energy is {results['energy']}. {_SMALLER_STEP}"
    forces = results.get("forces")
    if forces is not None and not np.isfinite(forces).all():
        return f"{_first_bad('force', atoms, np.asarray(forces))}. {_SMALLER_STEP}"
    if not math.isfinite(temperature_K):
        return f"{_first_bad('velocity', atoms, atoms.get_velocities())}. {_SMALLER_STEP}"
    if not np.isfinite(atoms.positions).all():
        return f"{_first_bad('position', atoms, atoms.positions)}. {_SMALLER_STEP}"
    if not temperature_K <= limit_K:
        limit = f"the limit of {limit_K:.0f} K (max_temperature_K)"
        return f"the temperature is {temperature_K:.0f} K, above {limit}. {_SMALLER_STEP}"
    if threshold is not None:
        return _find_disagreement(atoms, results, threshold)
    return None


def check_finite(atoms: Atoms) -> None:
    """Refuse a structure whose cell, positions or momenta are not finite.

    Raises:
        StructureError: Names the quantity and the first atom concerned.
    """
    if not np.isfinite(atoms.cell.array).all():
        raise StructureError(f"the cell {atoms.cell.array.tolist()} is not finite. Correct the structure.")
    for name, array in (("position", atoms.positions), ("momentum", atoms.get_momenta())):
        if not np.isfinite(array).all():
            raise StructureError(f"{_first_bad(name, atoms, array)}. Correct the structure.")


def _first_bad(name: str, atoms: Atoms, array: np.ndarray) -> str:
    """Describe the first row of an array [n_atoms, 3] that is not finite."""
    good = np.isfinite(array).all(axis=1)
    index = int(np.argmin(good))
    of = "force on" if name == "force" else f"{name} of"
    return f"the {of} atom {index} ({atoms.symbols[index]}) is {array[index].tolist()}"


def _find_disagreement(atoms: Atoms, results: dict[str, Any], threshold: float) -> str | None:
    spread = results.get("forces_std")
    if spread is None:
        raise OptionError(
            f"threshold = {threshold}: this calculator gives no spread of forces (forces_std). "
            "Use a committee of potentials, or a potential trained with potential.uncertainty, or leave the threshold out."
        )
    spread = np.asarray(spread, dtype=float)
    per_atom = np.linalg.norm(spread, axis=1) if spread.ndim == 2 else spread
    worst = int(np.argmax(per_atom))
    if per_atom[worst] <= threshold:
        return None
    return (
        f"the spread of the force on atom {worst} ({atoms.symbols[worst]}) is {per_atom[worst]:.3f} eV/Å, above "
        f"the threshold of {threshold:g}. Label the saved frame and train on it, or raise the threshold."
    )
