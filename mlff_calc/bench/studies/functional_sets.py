"""Molecules with energies on which learned functionals are compared; `functional_arms.py` compares them.

| part               | molecules                                                                  |
|--------------------|----------------------------------------------------------------------------|
| train, valid       | those of the set, with random displacements of `SPREAD`                    |
| in distribution    | the same                                                                   |
| larger distortions | those of the set, with random displacements of `WIDE`                      |
| other molecules    | others, which the training does not hold, with displacements of `SPREAD`   |

Energies are computed by PySCF, and kept: what is there is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule

from mlff_calc.datasets.labelling import label_structures
from mlff_calc.electronic.scf.energy_labels import EnergyLabels
from mlff_calc.electronic.scf.energy_level import EnergyLevel
from mlff_calc.errors import BenchmarkError
from mlff_calc.near import suggestion

SPREAD, WIDE = 0.05, 0.10
"""Standard deviations of random displacements of coordinates, Angstrom."""
TRAIN, VALID = "train", "valid"
IN_DISTRIBUTION, LARGER_DISTORTIONS, OTHER_MOLECULES = "in distribution", "larger distortions", "other molecules"
TESTS = (IN_DISTRIBUTION, LARGER_DISTORTIONS, OTHER_MOLECULES)
_PARTS = (TRAIN, VALID, *TESTS)


@dataclass(frozen=True)
class MoleculeSet:
    """Molecules of a comparison, by their names in ASE.

    Attributes:
        trained: Molecules of training and tests.
        others: Molecules of the last test alone.
        method: Method of the energies.
        train, valid, test: Numbers of structures, which go round the molecules; the test of other molecules has as many.
    """

    trained: tuple[str, ...]
    others: tuple[str, ...] = ()
    method: str = "b3lyp"
    train: int = 30
    valid: int = 8
    test: int = 20


SETS = {
    "water": MoleculeSet(("H2O",), method="ccsd(t)", test=50),
    "ethanol": MoleculeSet(("CH3CH2OH",)),
    "molecules": MoleculeSet(
        ("H2O", "NH3", "CH4", "H2CO"), ("CH3OH", "H2O2", "C2H4", "CH3CH2OH"), train=40, valid=8, test=20
    ),
}


def set_of(name: str, **changes: Any) -> MoleculeSet:
    """Return a set by name, with changes that are not None; raises a BenchmarkError for an unknown name."""
    if name not in SETS:
        raise BenchmarkError(f"unknown set {name!r}: {suggestion(name, SETS, after=' ')}known are {', '.join(SETS)}")
    return replace(SETS[name], **{key: value for key, value in changes.items() if value is not None})


def structures_of(molecules: MoleculeSet, part: str) -> list[Atoms]:
    """Return the structures of a part, the same at every call; none where the set has no other molecules."""
    count = {TRAIN: molecules.train, VALID: molecules.valid}.get(part, molecules.test)
    names = molecules.others if part == OTHER_MOLECULES else molecules.trained
    size = WIDE if part == LARGER_DISTORTIONS else SPREAD
    rng, found = np.random.default_rng([17, _PARTS.index(part)]), []
    for k in range(count if names else 0):
        atoms = molecule(names[k % len(names)])
        atoms.positions += size * rng.normal(size=(len(atoms), 3))
        found.append(atoms)
    return found


def labelled_parts(
    molecules: MoleculeSet,
    folder: Path,
    basis: str,
    grid_level: int,
    workers: int = 1,
    on_done: Callable[[str], None] | None = None,
) -> dict[str, Path]:
    """Compute the energies of all parts that are not there yet, and return their files by part.

    Args:
        molecules: Molecules, and the method of their energies.
        folder: Folder of the files.
        basis: Basis of the energies.
        grid_level: Level of the grid of functionals.
        workers: Number of processes.
        on_done: Called with the name of a part before its energies are computed.

    Raises:
        OptionError: PySCF is not installed, or does not know method or basis.
        SimulationError: No energy of a part can be computed.
        DatasetError: A file holds energies of another level, or of other structures.
    """
    kind = EnergyLabels(EnergyLevel.of(molecules.method, basis, grid_level))
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for part in _PARTS:
        structures = structures_of(molecules, part)
        if structures:
            path = folder / f"{part.replace(' ', '_')}.extxyz"
            if on_done is not None and not path.exists():
                on_done(f"energies, {part}")
            label_structures(structures, kind, path, workers, resume=True)
            found[part] = path
    return found
