"""Where labels stand in a structure that ASE has read, and how they come out of it.

ASE moves labels with its own names (``energy``, ``forces``, ``stress``, ...) out of ``atoms.info`` and ``atoms.arrays`` into
a calculator attached to the structure; others stay where they were. Both places are looked at, so a name means the same
whichever version of ASE read the file. Labels of one frame come from one place, as they could be of two methods: from the
calculator where it has them. A name that the user gives and that holds different values in two places is an error.
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

    A kind whose name is None is looked for under its own name and may be absent; a name given here must be found in the
    file. `stress`, `virial` and `vasp_stress` exclude one another.

    Attributes:
        energy: for the total energy.
        forces: for the forces.
        forces_sign: +1 for forces, -1 where the file holds the gradient of the energy.
        stress: for the stress, tensile positive: 6 numbers in Voigt order (xx yy zz yz xz xy), 9 numbers or 3 x 3. What is
            called a virial in the file (``dft_virial``) is converted as one.
        virial: for the virial, 6 or 9 numbers or 3 x 3; only read when it is named.
        virial_sign: +1 where the file's virial is positive in compression (``stress = -virial / volume``), -1 where the
            file has the opposite sign.
        vasp_stress: for a stress as VASP prints it ("in kB"): kbar, positive in compression, order xx yy zz xy yz zx.
        stress_order: order of the six numbers of a stress, virial or VASP stress where the file has another one, such as
            ``xx yy zz xy xz yz``; a label of 9 numbers or 3 x 3 is then refused.
        config_type: for the kind of configuration, which is kept aside for the evaluation.
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
            raise DatasetError(f"keys name both a {both}; keep the one to train on")
        if self.virial_sign not in (1, -1):
            raise DatasetError(f"virial_sign is {self.virial_sign}; give 1 (positive in compression) or -1")
        if self.forces_sign not in (1, -1):
            raise DatasetError(f"forces_sign is {self.forces_sign}; give 1 (forces) or -1 (gradient of the energy)")
        if self.stress_order is not None:
            parsed_order(self.stress_order)
        self._refuse_confusion()

    def _refuse_confusion(self) -> None:
        """A stress is not taken for a virial, from which it differs by sign and volume, nor ASE's order for VASP's."""
        name = self.virial
        if name is not None and "stress" in name.lower() and "virial" not in name.lower():
            raise DatasetError(
                f"keys.virial is '{name}', which by its name is a stress (virial = -stress * volume); write keys.stress: "
                f"{name}, or rename the label in the file if it is a virial"
            )
        if self.forces is not None and self.forces_sign == 1 and is_gradient(self.forces):
            raise DatasetError(
                f"keys.forces is '{self.forces}', which by its name is the gradient of the energy; write forces_sign: -1 "
                "beside it, or rename the label in the file if it holds forces"
            )
        if self.vasp_stress == "stress":
            raise DatasetError(
                "keys.vasp_stress is 'stress', whose numbers ASE puts into its own order; rename the label in the file, "
                "for example to vasp_stress"
            )

    def virial_name(self) -> str | None:
        """The name of a virial: `virial`, or a `stress` whose name says that it is one (``stress: dft_virial``)."""
        name = self.stress
        meant = name is not None and "virial" in name.lower() and "stress" not in name.lower()
        return name if meant else self.virial

    def named(self) -> dict[str, str]:
        """The names that the user gave, by kind."""
        every = {"energy": self.energy, "forces": self.forces, "stress": self.stress, "virial": self.virial}
        every["vasp_stress"] = self.vasp_stress
        return {kind: name for kind, name in every.items() if name is not None}


def find_label(atoms: Atoms, name: str, place: str = "") -> object | None:
    """What stands under `name` in info, arrays or the attached results; None where nothing does.

    Raises:
        DatasetError: the name holds different values in two places; `place` (file and frame) is named.
    """
    found = [(where, values[name]) for where, values in _places(atoms) if name in values]
    for where, value in found[1:]:
        if not _same(found[0][1], value):
            raise DatasetError(
                f"{place}: '{name}' stands both in {found[0][0]} and in {where}, and the two differ; remove one of them, "
                "or save it under another name and give that in keys"
            )
    return found[0][1] if found else None


def available_names(atoms: Atoms) -> list[str]:
    """All names under which a structure holds data, for messages."""
    hidden = {"numbers", "positions"}
    return sorted({name for _, values in _places(atoms) for name in values} - hidden)


def _places(atoms: Atoms) -> list[tuple[str, dict[str, Any]]]:
    """Where labels may stand, with words for messages."""
    results = getattr(atoms.calc, "results", {})
    return [("atoms.info", atoms.info), ("atoms.arrays", atoms.arrays), ("the calculator's results", results)]


def _same(one: object, other: object) -> bool:
    """Whether two labels are equal up to the rounding of a file; six numbers of a stress equal its 3 x 3."""
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
    """What stands under ASE's own name: in the calculator's results, else in info or arrays."""
    results = getattr(atoms.calc, "results", {})
    if name in results:
        return results[name]  # type: ignore[no-any-return]
    return atoms.info.get(name, atoms.arrays.get(name))


def disagreements(atoms: Atoms, keys: LabelKeys) -> list[str]:
    """Names of labels that nobody named and that differ between the structure and its calculator, which is believed."""
    results = getattr(atoms.calc, "results", {})
    names = [kind for kind in KINDS if getattr(keys, kind) is None]
    own = {name: atoms.info.get(name, atoms.arrays.get(name)) for name in names if name in results}
    return [name for name, value in own.items() if value is not None and not _same(value, results[name])]


def _require_one_place(atoms: Atoms, keys: LabelKeys, place: str, checked: Collection[Kind]) -> None:
    """Labels that nobody named come from one place: all from the calculator, or all with the structure."""
    own = {*atoms.info, *atoms.arrays}
    results = set(getattr(atoms.calc, "results", {}))
    named = {"stress"} if keys.virial or keys.vasp_stress else set()
    looked = [kind for kind in KINDS if kind in checked and kind not in named and getattr(keys, kind) is None]
    if "stress" in looked and not atoms.pbc.all():
        looked.remove("stress")  # it is not taken
    there = [kind for kind in looked if kind in results]
    here = [kind for kind in looked if kind in own and kind not in results]
    if not there or not here:
        return
    first, second = (" and ".join(f"'{kind}'" for kind in kinds) for kinds in (here, there))
    every = ", ".join(f"{kind}: {kind}" for kind in KINDS if kind in (*here, *there))
    raise DatasetError(
        f"{place}: {first} stands in the structure (info or arrays) and {second} in the calculator's results, so they may "
        f"be of two methods; if they belong together, name them: keys: {{{every}}}"
    )


def extract_labels(
    atoms: Atoms, keys: LabelKeys, units: Units, place: str, checked: Collection[Kind] = KINDS
) -> tuple[dict[Kind, Any], dict[Kind, str]]:
    """The labels of one structure in eV and Angstrom.

    Args:
        atoms: as ASE read it, lengths still in the file's unit.
        keys: where to look.
        units: the file's units.
        place: file and frame, for messages.
        checked: labels whose faults are errors; a faulty label of another kind is left out.

    Returns:
        Those of energy, forces [n_atoms, 3] and stress [3, 3] that are there, and for each of the others of which the frame
        holds something, why it is not taken. A stress is taken only from structures that are periodic in all three
        directions: others have no volume that it could refer to.

    Raises:
        DatasetError: a label has the wrong shape, is not finite, or is named and stands in two places with different
            values; labels that are not named stand in different places.
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
            absent[kind] = f"are left out as they have no weight and are faulty ({reason})"
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
    """How the keys that take a label are written in a recipe and on a command line."""
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
    """The stress [3, 3] in eV/Angstrom^3, from a stress or a virial, or why it is not taken."""
    given = keys.vasp_stress or keys.virial or keys.stress
    name = given or "stress"
    value = _default_label(atoms, name) if given is None else find_label(atoms, name, place)
    if value is None:
        return None
    if not atoms.pbc.all():
        return f"hold '{name}', but are not periodic in all three directions, and their stress is not trained on"
    if keys.vasp_stress is not None:
        array = number_array(value, ((6,),), place, name)
        return full_tensor(-array * KBAR, keys.stress_order or VASP)
    array = number_array(value, ((6,), (9,), (3, 3)), place, name)
    if array.size != 6 and keys.stress_order is not None:
        raise DatasetError(
            f"{place}: label '{name}' has shape {list(array.shape)}, and keys.stress_order is '{keys.stress_order}', which "
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
