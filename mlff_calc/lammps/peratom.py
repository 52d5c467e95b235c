"""Energies and stresses per atom, from a calculator into `fix external`, for `compute pe/atom` and `stress/atom`.

LAMMPS adds the fix's values to those of its own styles, and ignores them in steps where no compute needs them. Virials
have six components, which is right for pressures but wrong for heat fluxes of many-body potentials (see
docs/lammps.md).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from mlff_calc.errors import SimulationError

PROPERTY_OF = {"pe/atom": "energies", "stress/atom": "stresses"}
"""Property of the calculator that each compute needs."""
_TOLERANCE = 1e-6  # largest accepted error of sums, eV and relative


def missing(calculator: Calculator) -> set[str]:
    """Return the computes for which the calculator lacks a property."""
    return {name for name, needed in PROPERTY_OF.items() if needed not in calculator.implemented_properties}


def per_atom(
    calculator: Calculator, atoms: Atoms, asked: Collection[str], energy: float, virial: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Compute the values that `asked` needs: `pe/atom` [n] eV and `stress/atom` [n, 6] eV in the order xx yy zz xy xz yz.

    Args:
        calculator: calculator with results for `atoms`.
        atoms: structure.
        asked: names of computes.
        energy: total energy, eV.
        virial: total virial [3, 3], eV.

    Raises:
        SimulationError: the values of the atoms do not add up to the total, or the structure has none.
    """
    found = {}
    if "pe/atom" in asked:
        found["pe/atom"] = np.asarray(calculator.get_property("energies", atoms), dtype=np.float64)
        _require_sum(calculator, "energies", found["pe/atom"].sum(), energy)
    if "stress/atom" in asked:
        if not atoms.pbc.any():
            raise SimulationError(
                "compute stress/atom: there are no stresses per atom without periodic boundaries; leave it out, or make the "
                "box periodic and larger than the system by the cutoff"
            )
        stresses = np.asarray(calculator.get_property("stresses", atoms), dtype=np.float64)
        found["stress/atom"] = -stresses[:, [0, 1, 2, 5, 4, 3]] * atoms.cell.volume
        whole = [virial[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
        _require_sum(calculator, "stresses", found["stress/atom"].sum(axis=0), whole)
    return found


def hand_over(
    lammps: Any, fix: str, values: dict[str, NDArray[np.float64]], order: NDArray[np.int64], n_local: int
) -> None:
    """Pass values of the atoms in `order` to LAMMPS; other atoms get zeros.

    Args:
        lammps: object of `lammps.lammps`.
        fix: ID of the fix external.
        values: values from `per_atom`, in the order of `order`.
        order: indices of LAMMPS's atoms [n].
        n_local: number of LAMMPS's atoms.
    """
    if "pe/atom" in values:
        energies = np.zeros(n_local)
        energies[order] = values["pe/atom"]
        lammps.fix_external_set_energy_peratom(fix, energies.tolist())
    if "stress/atom" in values:
        virials = np.zeros((n_local, 6))
        virials[order] = values["stress/atom"]
        lammps.fix_external_set_virial_peratom(fix, virials.tolist())


def _require_sum(calculator: Calculator, name: str, found: Any, whole: Any) -> None:
    if not np.allclose(found, whole, rtol=_TOLERANCE, atol=_TOLERANCE * max(1.0, float(np.abs(whole).max()))):
        raise SimulationError(
            f"the {name} per atom of {type(calculator).__name__} add up to {found} eV, but the total is {whole}; leave the "
            "compute of atoms out"
        )
