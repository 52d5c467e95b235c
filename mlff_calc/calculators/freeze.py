"""Copies of atoms that keep their results."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.calculators.base import GraphCalculator
from mlff_calc.errors import StructureError


def freeze(atoms: Atoms) -> Atoms:
    """Copy atoms together with their results.

    A calculator remembers only its last structure. Structures that share one are frozen before they are written::

        write("frames.traj", [freeze(atoms) for atoms in frames])

    Args:
        atoms: Atoms with a calculator of any kind, which is called if it does not hold the results yet.

    Returns:
        A copy with constraints and `info`, and with a `SinglePointCalculator` of all results whose names ASE knows:
        energy and free_energy in eV, forces [n_atoms, 3] in eV/Angstrom (unconstrained), stress [6] in eV/Angstrom^3,
        and others.

    Raises:
        StructureError: The atoms have no calculator. Errors of the calculator are passed on.
    """
    calculator = atoms.calc
    if calculator is None:
        raise StructureError("freeze(atoms) needs atoms with a calculator; set atoms.calc first")
    results: dict[str, Any]
    if isinstance(calculator, GraphCalculator):
        results = calculator.evaluate(atoms)
    else:
        calculator.get_property("energy", atoms)
        results = {
            name: calculator.get_property(name, atoms, allow_calculation=False)
            for name in all_properties
            if name in calculator.implemented_properties
        }
    frozen = atoms.copy()
    kept = {name: value for name, value in results.items() if name in all_properties and value is not None}
    frozen.calc = SinglePointCalculator(frozen, **{name: np.copy(v) if np.ndim(v) else v for name, v in kept.items()})
    frozen.calc.name = calculator.name
    return frozen
