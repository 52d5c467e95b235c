"""Extraction of labels from a structure that ASE has read.

ASE moves labels with its own names (``energy``, ``forces``, ``stress``, ...) from ``atoms.info`` and ``atoms.arrays``
to a calculator attached to the structure; all others stay. Both places are searched, so that a name means the same in
any version of ASE. Labels of one frame that nobody named must come from one place, since they could otherwise be of two
methods; the calculator comes first. A name given by the user that holds different values in two places is an error.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase import units as ase_units
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from mlff_calc.datasets.sample import KINDS, Kind, number_array
from mlff_calc.datasets.spellings import is_gradient, spelled
from mlff_calc.datasets.stress_order import VASP, VOIGT, full_tensor, parsed_order
from mlff_calc.datasets.units import Units
from mlff_calc.errors import DatasetError

KBAR = 0.1 * ase_units.GPa
"""One kbar in eV/Angstrom^3."""


@dataclass(frozen=True)
class LabelKeys:
    """Names under which a file holds its labels.

    A label without a given name is searched under its own name and may be absent; a given name must exist in the file.
    `stress`, `virial` and `vasp_stress` exclude one another.

    Attributes:
        energy: Name of the total energy.
        forces: Name of the forces.
        forces_sign: +1 for forces, -1 if the file holds the gradient of the energy.
        stress: Name of the stress, tensile positive: 6 numbers in Voigt order (xx yy zz yz xz xy), 9 numbers or 3 x 3.
            A name that contains "virial" (``dft_virial``) is converted as a virial.
        virial: Name of the virial, 6 or 9 numbers or 3 x 3; read only if given.
        virial_sign: +1 if the file's virial is positive in compression (``stress = -virial / volume``), -1 for the
            opposite sign.
        vasp_stress: Name of a stress as VASP prints it ("in kB"): kbar, positive in compression, order xx yy zz xy yz
            zx.
        stress_order: Order of the six components of a stress, virial or VASP stress if it differs, such as ``xx yy zz
            xy xz yz``; labels of 9 numbers or 3 x 3 are then refused.
        config_type: Name of the kind of configuration, which is kept for the evaluation.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    virial_sign: int = 1
    vasp_stress: str | None = None
    config_type: str = "config_type"
    forces_sign: int = 1
    stress_order: str | None = None

    def __post_init__(self) -> None:
        given = {kind: name for kind, name in self.named().items() if kind not in ("energy", "forces")}
        if len(given) > 1:
            both = " and a ".join(f"{kind} ('{name}')" for kind, name in given.items())
            raise DatasetError(f"keys name both a {both}; keep one of them")
        if self.virial_sign not in (1, -1):
            raise DatasetError(f"virial_sign is {self.virial_sign}; give 1 (positive in compression) or -1")
        if self.forces_sign not in (1, -1):
            raise DatasetError(f"forces_sign is {self.forces_sign}; give 1 (forces) or -1 (gradient of the energy)")
        if self.stress_order is not None:
            parsed_order(self.stress_order)
        self._refuse_confusion()

    def _refuse_confusion(self) -> None:
        """Refuse names that suggest another sign, unit or order than the key assumes."""
        name = self.virial
        if name is not None and "stress" in name.lower() and "virial" not in name.lower():
            raise DatasetError(
                f"keys.virial is '{name}', which by its name is a stress (virial = -stress * volume); write keys.stress: "
                f"{name}, or rename the label in the file if it is a virial"
            )
        if self.forces is not None and self.forces_sign == 1 and is_gradient(self.forces):
            raise DatasetError(
                f"keys.forces is '{self.forces}', which by its name is the gradient of the energy; add forces_sign: -1, or "
                "rename the label in the file if it holds forces"
            )
        if self.vasp_stress == "stress":
            raise DatasetError(
                "keys.vasp_stress is 'stress', whose numbers ASE puts into its own order; rename the label in the file, "
                "for example to vasp_stress"
            )

    def virial_name(self) -> str | None:
        """Return the name of a virial: `virial`, or a `stress` with such a name (``stress: dft_virial``)."""
        name = self.stress
        meant = name is not None and "virial" in name.lower() and "stress" not in name.lower()
        return name if meant else self.virial

    def named(self) -> dict[str, str]:
        """Return the names given by the user, by kind."""
        every = {"energy": self.energy, "forces": self.forces, "stress": self.stress, "virial": self.virial}
        every["vasp_stress"] = self.vasp_stress
        return {kind: name for kind, name in every.items() if name is not None}


def find_label(atoms: Atoms, name: str, place: str = "") -> object | None:
    """Return the value under `name` in info, arrays or the attached results; None where there is none.

    Raises:
        DatasetError: the name holds different values in two places; the message begins with `place` (file and frame).
    """
    found = [(where, values[name]) for where, values in _places(atoms) if name in values]
    for where, value in found[1:]:
        if not _same(found[0][1], value):
            raise DatasetError(
                f"{place}: '{name}' is both in {found[0][0]} and in {where} with different values; remove one "
                "of them, or save it under another name and give that in keys"
            )
    return found[0][1] if found else None


def available_names(atoms: Atoms) -> list[str]:
    """List all names under which a structure holds data, for messages."""
    hidden = {"numbers", "positions"}
    return sorted({name for _, values in _places(atoms) for name in values} - hidden)


def _places(atoms: Atoms) -> list[tuple[str, dict[str, Any]]]:
    """List the places of labels, with words for messages."""
    results = getattr(atoms.calc, "results", {})
    return [("atoms.info", atoms.info), ("atoms.arrays", atoms.arrays), ("the calculator's results", results)]


def _same(one: object, other: object) -> bool:
    """Whether two labels are equal within the rounding of a file; six components of a stress may equal a 3 x 3 tensor."""
    try:
        a, b = (np.asarray(value, dtype=np.float64).squeeze() for value in (one, other))
    except (TypeError, ValueError):
        return one is other
    if {a.shape, b.shape} & {(6,)} and a.shape != b.shape:
        a, b = (voigt_6_to_full_3x3_stress(x) if x.shape == (6,) else x for x in (a, b))
    if a.size == b.size == 9:
        a, b = a.reshape(3, 3), b.reshape(3, 3)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-6, atol=1e-8, equal_nan=True))


def _default_label(atoms: Atoms, name: str) -> object | None:
    """Return the value under ASE's own name: from the calculator's results, else from info or arrays."""
    results = getattr(atoms.calc, "results", {})
    if name in results:
        return results[name]  # type: ignore[no-any-return]
    return atoms.info.get(name, atoms.arrays.get(name))


def disagreements(atoms: Atoms, keys: LabelKeys) -> list[str]:
    """List unnamed labels whose values differ between the structure and its calculator, which takes precedence."""
    results = getattr(atoms.calc, "results", {})
    names = [kind for kind in KINDS if getattr(keys, kind) is None]
    own = {name: atoms.info.get(name, atoms.arrays.get(name)) for name in names if name in results}
    return [name for name, value in own.items() if value is not None and not _same(value, results[name])]


def _require_one_place(atoms: Atoms, keys: LabelKeys, place: str, checked: Collection[Kind]) -> None:
    """Check that unnamed labels come from one place: all from the calculator, or all from the structure."""
    own = {*atoms.info, *atoms.arrays}
    results = set(getattr(atoms.calc, "results", {}))
    named = {"stress"} if keys.virial or keys.vasp_stress else set()
    looked = [kind for kind in KINDS if kind in checked and kind not in named and getattr(keys, kind) is None]
    if "stress" in looked and not atoms.pbc.all():
        looked.remove("stress")  # the stress of such a structure is not taken
    there = [kind for kind in looked if kind in results]
    here = [kind for kind in looked if kind in own and kind not in results]
    if not there or not here:
        return
    first, second = (" and ".join(f"'{kind}'" for kind in kinds) for kinds in (here, there))
    every = ", ".join(f"{kind}: {kind}" for kind in KINDS if kind in (*here, *there))
    raise DatasetError(
        f"{place}: {first} is in the structure (info or arrays) but {second} in the calculator's results, so they may be of "
        f"two methods; if they belong together, name them: keys: {{{every}}}"
    )


def extract_labels(
    atoms: Atoms, keys: LabelKeys, units: Units, place: str, checked: Collection[Kind] = KINDS
) -> tuple[dict[Kind, Any], dict[Kind, str]]:
    """Extract the labels of one structure, in eV and Angstrom.

    Args:
        atoms: Structure as read by ASE, with lengths in the file's unit.
        keys: Names of the labels.
        units: Units of the file.
        place: File and frame, for messages.
        checked: Labels whose faults are errors; other faulty labels are left out.

    Returns:
        The labels that are present of energy, forces [n_atoms, 3] and stress [3, 3], and the reasons why related data
        of the others is not taken. A stress is taken only from structures that are periodic in all three directions;
        others have no volume to refer to.

    Raises:
        DatasetError: a label has the wrong shape or is not finite, a named label has different values in two places, or
            unnamed labels are in different places.
    """
    _require_one_place(atoms, keys, place, checked)
    labels: dict[Kind, Any] = {}
    absent: dict[Kind, str] = {}
    makers = {"energy": _energy, "forces": _forces, "stress": _stress}
    for kind in KINDS:
        try:
            label = makers[kind](atoms, keys, units, place)
        except DatasetError as error:
            if kind in checked:
                raise
            reason = str(error).removeprefix(f"{place}: ")
            absent[kind] = f"are faulty and left out, since they have no weight ({reason})"
            continue
        if isinstance(label, str):
            absent[kind] = label
        elif label is not None:
            labels[kind] = label
        else:
            other = spelled(available_names(atoms), kind)
            if other:
                absent[kind] = "hold " + " and ".join(f"'{name}' ({_taken_by(taking)})" for name, taking in other)
    return labels, absent


def _taken_by(keys: dict[str, str]) -> str:
    """Describe the keys that take a label, as written in a recipe and on a command line."""
    recipe = ", ".join(f"keys.{key}: {name}" for key, name in keys.items())
    return f"{recipe} or {' '.join(f'--key {key}={name}' for key, name in keys.items())} takes it"


def _energy(atoms: Atoms, keys: LabelKeys, units: Units, place: str) -> float | None:
    name = keys.energy or "energy"
    value = _default_label(atoms, name) if keys.energy is None else find_label(atoms, name, place)
    return None if value is None else float(number_array(value, ((),), place, name)) * units.energy_factor


def _forces(atoms: Atoms, keys: LabelKeys, units: Units, place: str) -> NDArray[np.float64] | None:
    name = keys.forces or "forces"
    value = _default_label(atoms, name) if keys.forces is None else find_label(atoms, name, place)
    if value is None:
        return None
    return number_array(value, ((len(atoms), 3),), place, name) * (keys.forces_sign * units.forces_factor)


def _stress(atoms: Atoms, keys: LabelKeys, units: Units, place: str) -> NDArray[np.float64] | str | None:
    """Return the stress [3, 3] in eV/Angstrom^3 from a stress or virial, or the reason why it is not taken."""
    given = keys.vasp_stress or keys.virial or keys.stress
    name = given or "stress"
    value = _default_label(atoms, name) if given is None else find_label(atoms, name, place)
    if value is None:
        return None
    if not atoms.pbc.all():
        return f"hold '{name}', but are not periodic in all three directions, so their stress is not used"
    if keys.vasp_stress is not None:
        array = number_array(value, ((6,),), place, name)
        return full_tensor(-array * KBAR, keys.stress_order or VASP)
    array = number_array(value, ((6,), (9,), (3, 3)), place, name)
    if array.size != 6 and keys.stress_order is not None:
        raise DatasetError(
            f"{place}: label '{name}' has shape {list(array.shape)}, but keys.stress_order is '{keys.stress_order}', which "
            "is an order of six numbers; leave stress_order out"
        )
    full = full_tensor(array, keys.stress_order or VOIGT) if array.size == 6 else array.reshape(3, 3)
    symmetric: NDArray[np.float64] = 0.5 * (full + full.T)
    if keys.virial_name() is None:
        return symmetric * units.stress_factor
    volume = float(abs(np.linalg.det(atoms.cell.array))) * units.length_factor**3
    if volume <= 0.0:
        raise DatasetError(f"{place}: label '{name}' is a virial, but the cell has no volume; correct the cell")
    return -keys.virial_sign * units.energy_factor * symmetric / volume
