"""Where labels stand in a structure that ASE has read, and how they come out of it.

ASE moves labels with its own names (``energy``, ``forces``, ``stress``, ...) out of ``atoms.info`` and ``atoms.arrays`` into
a calculator attached to the structure; others stay where they were. Both places are looked at, so a name means the same
whichever version of ASE read the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase import units as ase_units
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from mlff_calc.datasets.sample import Kind, number_array
from mlff_calc.datasets.units import Units
from mlff_calc.errors import DatasetError

KBAR = 0.1 * ase_units.GPa
"""One kbar in eV/Angstrom^3."""


@dataclass(frozen=True)
class LabelKeys:
    """Names under which a file holds its labels.

    A kind whose name is None is looked for under its own name and may be absent; a name given here must be found in the
    file. `stress`, `virial` and `vasp_stress` exclude one another.

    Attributes:
        energy: for the total energy.
        forces: for the forces.
        stress: for the stress, tensile positive: 6 numbers in Voigt order (xx yy zz yz xz xy) or 3 x 3.
        virial: for the virial, 6 numbers or 3 x 3; only read when it is named.
        virial_sign: +1 where the file's virial is positive in compression (``stress = -virial / volume``), -1 where the
            file has the opposite sign.
        vasp_stress: for a stress as VASP prints it ("in kB"): kbar, positive in compression, order xx yy zz xy yz zx.
        config_type: for the kind of configuration, which is kept aside for the evaluation.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    virial_sign: int = 1
    vasp_stress: str | None = None
    config_type: str = "config_type"

    def __post_init__(self) -> None:
        given = {kind: name for kind, name in self.named().items() if kind not in ("energy", "forces")}
        if len(given) > 1:
            both = " and a ".join(f"{kind} ('{name}')" for kind, name in given.items())
            raise DatasetError(f"keys name both a {both}; keep the one to train on")
        if self.virial_sign not in (1, -1):
            raise DatasetError(f"virial_sign is {self.virial_sign}; give 1 (positive in compression) or -1")

    def named(self) -> dict[str, str]:
        """The names that the user gave, by kind."""
        every = {"energy": self.energy, "forces": self.forces, "stress": self.stress, "virial": self.virial}
        every["vasp_stress"] = self.vasp_stress
        return {kind: name for kind, name in every.items() if name is not None}


def find_label(atoms: Atoms, name: str) -> object | None:
    """What stands under `name` in info, arrays or the attached results; None where nothing does."""
    for place in (atoms.info, atoms.arrays, getattr(atoms.calc, "results", {})):
        if name in place:
            return place[name]
    return None


def available_names(atoms: Atoms) -> list[str]:
    """All names under which a structure holds data, for messages."""
    hidden = {"numbers", "positions"}
    return sorted({*atoms.info, *atoms.arrays, *getattr(atoms.calc, "results", {})} - hidden)


def extract_labels(atoms: Atoms, keys: LabelKeys, units: Units, place: str) -> dict[Kind, Any]:
    """The labels of one structure in eV and Angstrom.

    Args:
        atoms: as ASE read it, lengths still in the file's unit.
        keys: where to look.
        units: the file's units.
        place: file and frame, for messages.

    Returns:
        Those of energy, forces [n_atoms, 3] and stress [3, 3] that are there. A stress is taken only from structures
        that are periodic in all three directions: others have no volume that it could refer to.

    Raises:
        DatasetError: a label has the wrong shape or is not finite.
    """
    labels: dict[Kind, Any] = {}
    energy_name = keys.energy or "energy"
    energy = find_label(atoms, energy_name)
    if energy is not None:
        labels["energy"] = float(number_array(energy, ((),), place, energy_name)) * units.energy_factor
    forces_name = keys.forces or "forces"
    forces = find_label(atoms, forces_name)
    if forces is not None:
        array = number_array(forces, ((len(atoms), 3),), place, forces_name)
        labels["forces"] = array * (units.energy_factor / units.length_factor)
    if atoms.pbc.all() and keys.vasp_stress is not None:
        value = find_label(atoms, keys.vasp_stress)
        if value is not None:
            array = number_array(value, ((6,),), place, keys.vasp_stress)[[0, 1, 2, 4, 5, 3]]
            labels["stress"] = voigt_6_to_full_3x3_stress(-array * KBAR)
    elif atoms.pbc.all():
        stress = _stress(atoms, keys, place)
        if stress is not None:
            labels["stress"] = stress * (units.energy_factor / units.length_factor**3)
    return labels


def _stress(atoms: Atoms, keys: LabelKeys, place: str) -> NDArray[np.float64] | None:
    """The stress [3, 3] in the file's units, from a stress or a virial."""
    name = keys.virial or keys.stress or "stress"
    value = find_label(atoms, name)
    if value is None:
        return None
    array = number_array(value, ((6,), (9,), (3, 3)), place, name)
    full = voigt_6_to_full_3x3_stress(array) if array.shape == (6,) else array.reshape(3, 3)
    symmetric = 0.5 * (full + full.T)
    if keys.virial is None:
        return symmetric
    volume = float(atoms.get_volume())
    if volume <= 0.0:
        raise DatasetError(f"{place}: label '{name}' is a virial, but the cell has no volume; correct the cell")
    return -keys.virial_sign * symmetric / volume
