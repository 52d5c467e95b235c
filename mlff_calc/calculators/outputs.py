"""Conversion of the tensors of a potential to the arrays that ASE expects.

Energies are in eV, forces in eV/Angstrom. Stress is in eV/Angstrom^3, positive under tension, as six numbers
xx yy zz yz xz xy (Voigt); it is the negative virial divided by the volume of the cell.

==================  ==================================================================================================
structure           stress
==================  ==================================================================================================
periodic in 3       -virial / volume.
periodic in 1 or 2  -virial / volume of the whole cell including vacuum, as in plane-wave codes, so that it depends on
(slab, wire)        the height of the cell. Stress times height is the surface stress in eV/Angstrom^2, which does not.
                    Components along directions without periodicity contain only forces between atoms, and no pressure
                    of a container.
not periodic        None. Asking for the stress is an error, because a molecule has no volume.
==================  ==================================================================================================

`stresses` are contributions of atoms to the stress, divided by the volume of the whole cell, so that their sum is `stress`
(ASE's convention). The potential defines how the contribution of an edge is divided between its atoms (see
`atomic_virial`). The antisymmetric part, whose sum is zero, is left out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlff_calc.errors import SimulationError
from mlff_calc.graph.box import all_finite
from mlff_calc.graph.frame import System
from mlff_calc.heads.uncertainty import ENERGY_STD, FORCES_STD
from mlff_calc.potential.keys import ATOMIC_VIRIAL, ENERGIES, ENERGY, FORCES

Arrays = dict[str, NDArray[np.float64]]
Results = dict[str, Any]
MIN_VOLUME = 1e-6
"""Smallest volume with a stress, Angstrom^3. In smaller cells a vector is zero or lies in the plane of the others."""
_ALWAYS = (ENERGY, ENERGIES, FORCES)
SPREADS = (ENERGY_STD, FORCES_STD)
"""Standard deviations, which potentials with heads of errors give."""
_ROWS, _COLUMNS = np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1])


def no_stress_reason(system: System) -> str | None:
    """Return the reason why a structure has no stress, with the cure; None if it has one."""
    if not system.is_periodic:
        return (
            "stress of a structure without periodic boundaries is not defined (it has no volume); energy and forces are. "
            "For a crystal or slab set atoms.pbc and atoms.cell; relax a molecule without a cell filter"
        )
    if system.volume < MIN_VOLUME:
        missing = ", ".join("abc"[i] for i in range(3) if not system.cell[i].any()) or "one of the vectors"
        return (
            f"stress needs a volume, but cell vector {missing} is zero or lies in the plane of the others; "
            "give the cell a height (atoms.center(vacuum=10.0, axis=2) for a slab). Energy and forces need none"
        )
    return None


def require_stress(system: System) -> None:
    """Refuse a structure that has no stress.

    Raises:
        PropertyNotImplementedError: The structure has no stress; the text gives the cure.
    """
    reason = no_stress_reason(system)
    if reason is not None:
        raise PropertyNotImplementedError(reason)


def to_host(outputs: dict[str, torch.Tensor], system: System) -> Arrays:
    """Return energy [1], energies [n], forces [n, 3], standard deviations and atomic virials [n, 3, 3] as float64 arrays.

    Virials are left out if the structure has no stress or the potential computes none. Tensors on a GPU are copied as one
    block, since every copy waits for the GPU. On a CPU the arrays share the memory of float64 tensors.
    """
    wanted = (*_ALWAYS, *(name for name in SPREADS if name in outputs))
    if ATOMIC_VIRIAL in outputs and no_stress_reason(system) is None:
        wanted = (*wanted, ATOMIC_VIRIAL)
    tensors = {name: outputs[name] for name in wanted}
    if outputs[FORCES].device.type == "cpu":
        return {name: _double(tensor) for name, tensor in tensors.items()}
    block = _double(torch.cat([tensor.reshape(-1).to(torch.float64) for tensor in tensors.values()]).cpu())
    ends = np.cumsum([tensor.numel() for tensor in tensors.values()])[:-1]
    parts = np.split(block, ends)
    return {name: part.reshape(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts, strict=True)}


def _double(tensor: torch.Tensor) -> NDArray[np.float64]:
    plain = tensor.detach() if tensor.requires_grad else tensor
    array: NDArray[np.float64] = (plain if plain.dtype == torch.float64 else plain.to(torch.float64)).numpy()
    return array


def empty_arrays() -> Arrays:
    """Return the arrays of a structure without atoms."""
    return {ENERGY: np.zeros(1), ENERGIES: np.zeros(0), FORCES: np.zeros((0, 3)), ATOMIC_VIRIAL: np.zeros((0, 3, 3))}


def ase_results(arrays: Arrays, system: System) -> Results:
    """Return the results dictionary of an ASE calculator.

    Args:
        arrays: Result of `to_host`.
        system: Structure, whose periodicity and volume determine whether it has a stress.

    Returns:
        energy, free_energy (equal to the energy, since a potential has no electronic entropy), energies [n], forces [n, 3],
        if structure and potential have a stress also stress [6] and stresses [n, 6], and if the potential has heads of
        errors also energy_std and forces_std [n, 3].
    """
    energy = float(arrays[ENERGY][0])
    results: Results = {
        "energy": energy,
        "free_energy": energy,
        "energies": arrays[ENERGIES],
        "forces": arrays[FORCES],
    }
    if ENERGY_STD in arrays:
        results[ENERGY_STD] = float(arrays[ENERGY_STD][0])
    if FORCES_STD in arrays:
        results[FORCES_STD] = arrays[FORCES_STD]
    if ATOMIC_VIRIAL in arrays and no_stress_reason(system) is None:
        virials = arrays[ATOMIC_VIRIAL]
        voigt = 0.5 * (virials[:, _ROWS, _COLUMNS] + virials[:, _COLUMNS, _ROWS])
        results["stresses"] = voigt / -system.volume
        results["stress"] = results["stresses"].sum(axis=0)
    return results


def is_finite(results: Results) -> bool:
    """Whether the energy and all forces are finite."""
    return math.isfinite(results["energy"]) and all_finite(results["forces"])


def not_finite(results: Results, numbers: NDArray[np.int64]) -> SimulationError:
    """Return the error for energies or forces that are not finite, which names the first atom with such a force.

    Args:
        results: Results with energy, and forces [n_atoms, 3].
        numbers: Atomic numbers [n_atoms].
    """
    bad = np.flatnonzero(~np.isfinite(results["forces"]).all(axis=1))
    where = f", first at atom {bad[0]} ({chemical_symbols[numbers[bad[0]]]})" if len(bad) else ""
    return SimulationError(
        f"the potential gave an energy of {results['energy']} eV and {len(bad)} forces that are not finite{where}; the "
        "structure is probably far from what it was trained on. Look at this frame, or try precision='float64'"
    )
