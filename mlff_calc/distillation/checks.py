"""What a label must be before it is learned, and the first labels, which tell whether units and signs fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlff_calc.errors import OptionError
from mlff_calc.graph.domain import longest

MOST_FORCE = 100.0
"""Largest force that is learned, eV/Angstrom. Raising it learns from atoms that nearly overlap."""
WRONG_UNITS = 1000.0
"""Force of a first label (eV/Angstrom) above which its units are wrong. Raising it accepts stranger teachers."""
SIGMAS = 10.0
"""Distance of an energy from what its composition tells, in standard deviations, above which it is failed."""
LEAST_SIGMA = 0.2
"""Smallest standard deviation of this test, eV per atom. It exceeds the thermal energy at 1000 K, since hot frames
are rare among calm ones, and right. Raising it accepts larger mistakes of the teacher."""
FEWEST = 10
"""Number of energies below which this test is left out."""
STEP = 0.02
"""Largest displacement of an atom in the test of the first labels, Angstrom."""
AGREEMENT = 0.1
"""Relative difference of work and energy in this test above which the teacher is refused."""
_HARTREE, _BOHR = 27.211386, 0.529177
_FACTORS = {
    1.0 / _HARTREE: "energies look like Hartree; return eV",
    _HARTREE: "forces look like Hartree/Angstrom; return eV/Angstrom",
    1.0 / _BOHR: "forces look like those of a length in Bohr, or both like atomic units; return eV and eV/Angstrom",
    _HARTREE / _BOHR: "forces look like Hartree/Bohr; return eV/Angstrom",
    1.0 / (_HARTREE * _BOHR): "energies look like Hartree and forces like eV/Bohr; return eV and eV/Angstrom",
    23.060548: "energies look like kcal/mol; return eV",
    1.0 / 23.060548: "forces look like kcal/mol/Angstrom; return eV/Angstrom",
    96.485332: "energies look like kJ/mol; return eV",
    1.0 / 96.485332: "forces look like kJ/mol/Angstrom; return eV/Angstrom",
    -1.0: "forces have the sign of the gradient; return minus the gradient",
}
"""What makes the energy fall by so many times what the forces tell."""
Label = dict[str, Any]


def arrays_of(atoms: Atoms, label: Mapping[str, Any], want: Sequence[str]) -> Label:
    """Return a label as arrays; arguments and result are those of `checked`.

    Raises:
        OptionError: A part has a wrong shape, or is not finite.
    """
    shapes = {"energy": (), "forces": (len(atoms), 3), "stress": (6,)}
    found: Label = {}
    for name in want:
        try:
            value = np.asarray(label.get(name), dtype=np.float64)
        except (TypeError, ValueError):
            raise OptionError(f"{name} is no array of numbers") from None
        if name == "stress" and value.shape == (3, 3):
            value = value.flat[[0, 4, 8, 5, 2, 1]]
        value = value.reshape(()) if name == "energy" and value.shape == (1,) else value
        if value.shape != shapes[name]:
            raise OptionError(f"{name} has the shape {value.shape} in place of {shapes[name]}")
        if not np.isfinite(value).all():
            raise OptionError(f"{name} is not finite")
        found[name] = float(value) if name == "energy" else value
    return found


def checked(atoms: Atoms, label: Mapping[str, Any], want: Sequence[str]) -> Label:
    """Return a label as arrays.

    Args:
        atoms: Structure.
        label: Energy (eV), forces (eV/Angstrom), stress (eV/Angstrom^3) as lists.
        want: Which of them there must be.

    Returns:
        `energy` (a float), `forces` [n_atoms, 3], `stress` [6].

    Raises:
        OptionError: It is not a label: a wrong shape, a value that is not finite, a force that is too large.
    """
    found = arrays_of(atoms, label, want)
    largest, where = longest(found["forces"])
    if largest > MOST_FORCE:
        symbol = chemical_symbols[atoms.numbers[where]]
        raise OptionError(
            f"the force on atom {where} ({symbol}) is {largest:.4g} eV/Angstrom, and more than {MOST_FORCE:g} is not learned"
        )
    return found


def first_label(label: Mapping[str, Any], name: str) -> None:
    """Look at the first label of a run.

    Raises:
        OptionError: A force is so large that its unit must be another one.
    """
    forces = np.asarray(label["forces"], dtype=np.float64)
    largest = float(np.nanmax(np.abs(forces), initial=0.0))
    if largest > WRONG_UNITS:
        raise OptionError(
            f"the first label of teacher {name} has a force of {largest:.4g} eV/Angstrom, which no structure has; its units "
            "are wrong: a teacher gives energies in eV and forces in eV/Angstrom, as all calculators of ASE do"
        )


def probes(atoms: Atoms, forces: NDArray[np.float64]) -> tuple[list[Atoms], float]:
    """Two structures on both sides of one along its forces, and the work between them.

    Args:
        atoms: Structure.
        forces: [n_atoms, 3] eV/Angstrom.

    Returns:
        The structures, and minus the energy difference from the first to the second that the forces tell, eV.
    """
    largest = max(longest(forces)[0], 1e-12)
    step = STEP * forces / largest
    moved = []
    for sign in (-1.0, 1.0):
        copy = atoms.copy()
        copy.positions += sign * step
        moved.append(copy)
    return moved, 2.0 * float((step * forces).sum())


def energies_fit(work: float, energies: Sequence[float], name: str) -> None:
    """Compare the energies of two probes with the work of the forces.

    Args:
        work: Work between them, eV.
        energies: Their energies, eV.
        name: Name of the teacher.

    Raises:
        OptionError: They do not fit, so that units or signs are wrong, or forces are not the gradient.
    """
    if work < 1e-3:
        return
    ratio = (energies[0] - energies[1]) / work
    if abs(ratio - 1.0) <= AGREEMENT:
        return
    words = next((text for factor, text in _FACTORS.items() if abs(ratio / factor - 1.0) < 0.05), None)
    cure = words or "check that both are in eV and Angstrom, and that forces are minus the gradient of the energy"
    raise OptionError(
        f"energies and forces of teacher {name} do not fit together: along its forces the energy of the first "
        "structure falls by "
        f"{energies[0] - energies[1]:.4g} where the forces tell {work:.4g}; {cure}"
    )


def outliers(structures: Sequence[Atoms], energies: Sequence[float]) -> dict[int, str]:
    """Find energies far from a linear function of the composition.

    Args:
        structures: Structures.
        energies: Their energies, eV.

    Returns:
        The reason, by number of the structure.
    """
    if len(structures) < FEWEST:
        return {}
    kinds = np.unique(np.concatenate([atoms.numbers for atoms in structures]))
    counts = np.array([[np.count_nonzero(atoms.numbers == z) for z in kinds] for atoms in structures], dtype=np.float64)
    sizes, values = counts.sum(axis=1), np.asarray(energies, dtype=np.float64)
    kept = np.ones(len(values), dtype=bool)
    for _ in range(3):  # without those that were found, which would draw the fit to themselves
        rows = counts[kept] / sizes[kept, None]
        found = np.linalg.lstsq(rows, values[kept] / sizes[kept], rcond=None)[0]
        away = values / sizes - counts @ found / sizes
        away = away - np.median(away)
        sigma = max(1.4826 * float(np.median(np.abs(away))), LEAST_SIGMA)
        kept = np.abs(away) <= SIGMAS * sigma
    return {
        int(k): f"its energy is {away[k]:+.3g} eV per atom from what its composition tells, more than {SIGMAS:g} standard "
        f"deviations ({sigma:.3g})"
        for k in np.flatnonzero(~kept)
    }
