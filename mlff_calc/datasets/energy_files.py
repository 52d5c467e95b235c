"""Extended xyz files of energies of one level, in eV and Angstrom, which any program that reads extxyz can use.

======================  ============================================================================
``energy``, ``forces``  eV and eV/Angstrom; forces only where they were computed
``level``               method, basis and thresholds in words; frames of different levels do not mix
``charge``              total charge, e
``source``              number of the structure that was labelled
======================  ============================================================================

Structures without an energy stand with their reasons in a file beside it, NAME.failures.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from mlff_calc.bounded import parse_json, read_text
from mlff_calc.datasets.ase_files import read_frames_with_ase
from mlff_calc.errors import DatasetError
from mlff_calc.whole_files import replacing, write_whole

LEVEL, SOURCE = "level", "source"


@dataclass(frozen=True)
class EnergyFrame:
    """A structure with its energy.

    Attributes:
        numbers: Atomic numbers [n_atoms].
        positions: Positions [n_atoms, 3], Angstrom.
        energy: Total energy, eV.
        forces: Forces [n_atoms, 3], eV/Angstrom, or None.
        charge: Total charge, e.
        source: Number of the structure in what the file was made of.
    """

    numbers: NDArray
    positions: NDArray
    energy: float
    forces: NDArray | None = None
    charge: int = 0
    source: int = 0

    def atoms(self, level: str) -> Atoms:
        """Return the structure with its labels at a level."""
        atoms = Atoms(self.numbers, self.positions, info={LEVEL: level, "charge": self.charge, SOURCE: self.source})
        results = {"energy": self.energy} | ({} if self.forces is None else {"forces": self.forces})
        atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms


class EnergyFile:
    """A file of energies of one level, as `mlff data energies` writes it.

    Args:
        path: The file.

    Attributes:
        path: The file.
        level: Level of all energies.
        frames: Structures with their energies.
        failures: Number and reason of each structure without an energy.

    Raises:
        DatasetError: The file cannot be read, or holds frames without a level or energy, or of several levels.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        structures = [atoms for _, atoms in read_frames_with_ase(self.path, ":", "extxyz")]
        level = one_level(structures, [f"{self.path}, frame {number}" for number in range(len(structures))])
        if level is None:
            raise DatasetError(f"{self.path} does not say the level of its energies; make it with `mlff data energies`")
        self.level = level
        self.frames = [self._frame(number, atoms) for number, atoms in enumerate(structures)]
        self.failures = read_failures(self.path)

    def _frame(self, number: int, atoms: Atoms) -> EnergyFrame:
        results = {} if atoms.calc is None else atoms.calc.results
        source = atoms.info.get(SOURCE)
        if "energy" not in results or not isinstance(source, int | np.integer):
            raise DatasetError(f"{self.path}, frame {number} lacks energy or `{SOURCE}`; make it with `mlff data energies`")
        charge = int(atoms.info.get("charge", 0))
        return EnergyFrame(
            atoms.numbers, atoms.positions, float(results["energy"]), results.get("forces"), charge, int(source)
        )  # fmt: skip


def write_energies(
    path: Path, frames: Iterable[EnergyFrame], level: str, failures: Sequence[tuple[int, str]] = ()
) -> None:
    """Write a file of energies, which appears when it is complete.

    Args:
        path: File; an existing one is replaced.
        frames: Structures with their energies.
        level: Level of all of them, in words.
        failures: Number and reason of each structure without an energy, kept in a file beside it.

    Raises:
        OSError: A file cannot be written.
    """
    write_failures(path, failures)
    with replacing(path) as temporary:
        ase.io.write(temporary, [frame.atoms(level) for frame in frames], format="extxyz")


def write_failures(path: Path, failures: Sequence[tuple[int, str]]) -> None:
    """Write the reasons of failures beside a file, or remove those of an earlier one where there are none.

    Raises:
        OSError: The file cannot be written.
    """
    beside = failures_of(path)
    if failures:
        write_whole(beside, json.dumps(dict(failures), indent=1) + "\n")
    else:
        beside.unlink(missing_ok=True)


def failures_of(path: Path) -> Path:
    """Return the path of the reasons why structures have no energy."""
    return path.with_name(f"{path.name}.failures.json")


def one_level(structures: Iterable[Atoms], places: Sequence[str]) -> str | None:
    """Return the level that all structures name; None where none names one.

    Args:
        structures: Structures, whose level is `info['level']`.
        places: File and frame of each, for messages.

    Raises:
        DatasetError: They name different levels, or only some name one.
    """
    found: dict[str | None, str] = {}
    for atoms, place in zip(structures, places, strict=True):
        level = atoms.info.get(LEVEL)
        found.setdefault(None if level is None else str(level), place)
    if len(found) > 1:
        (one, first), (two, second), *_ = found.items()
        words = [f"of the level {level!r}" if level is not None else "of no named level" for level in (one, two)]
        raise DatasetError(
            f"energies of different levels are mixed: {first} is {words[0]}, {second} is {words[1]}. Label all structures "
            "at one level, or train on one file"
        )
    return next(iter(found), None)


def read_failures(file: Path) -> list[tuple[int, str]]:
    """Read the reasons of failures that stand beside a file; raises a DatasetError where they are damaged."""
    path = failures_of(file)
    if not path.exists():
        return []
    try:
        found = parse_json(read_text(path, DatasetError))
        return sorted((int(number), str(reason)) for number, reason in found.items())
    except (ValueError, AttributeError) as error:
        raise DatasetError(f"{path} is damaged ({error}); remove it, and label again with --overwrite") from error
