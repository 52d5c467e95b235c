"""Results that stay with their structure."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.calculators.base import GraphCalculator
from mlff_calc.errors import StructureError


def freeze(atoms: Atoms) -> Atoms:
    """A copy of the atoms that keeps its results, whatever its calculator is asked afterwards.

    A calculator remembers one structure, the last. Several that share it are frozen before they are written or handed on::

        write("frames.traj", [freeze(atoms) for atoms in frames])

    Args:
        atoms: with a calculator of any kind; it is asked where it does not know the results yet.

    Returns:
        A copy, constraints and `info` included, with a `SinglePointCalculator` that holds all results that have a name
        in ASE: energy and free_energy eV, forces [n_atoms, 3] eV/Angstrom (unconstrained), stress [6] eV/Angstrom^3,
        and others.

    Raises:
        StructureError: the atoms have no calculator; otherwise what the calculator raises.
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
