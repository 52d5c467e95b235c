"""Structures of molecules from SMILES: minima and structures around them, and labels by GFN2-xTB on request.

Minima are those of MMFF94, or of GFN2-xTB, with structures of the way between the two. Around each are distortions as at one
or several temperatures, with the curvatures of MMFF94, and structures with a bond that is too short or too long.

Frames of an extended xyz file hold, in `info`:

==========================  ================================================================================
``smiles``, ``name``        canonical SMILES, and name in the source
``source``                  number of the SMILES in the source
``conformer``               number of the minimum, by rising energy
``distortion``              0 for the minimum itself, from 1 for distortions, structures with a strained bond, and the way
``made``                    how positions were made, and of which molecules, in words
``level``                   level of energy and forces (eV, eV/Angstrom), where there are any
==========================  ================================================================================

Reasons of failures stand beside it, in NAME.failures.json. Positions do not depend on the order of the list: random numbers
are those of the seed and the SMILES.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ase.io.extxyz
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.datasets.ase_files import as_written, read_frames_with_ase
from mlff_calc.datasets.energy_files import LEVEL, SOURCE, read_failures, write_failures
from mlff_calc.datasets.gfn2 import GFN2
from mlff_calc.datasets.labelling import Alone, ComputedKind, LabelJournal, WholeFile
from mlff_calc.datasets.mmff import distorted, minima
from mlff_calc.datasets.molecules import Molecule, MoleculeError, from_smiles, rdkit_chem
from mlff_calc.datasets.motion.trajectories import xtb_calculator
from mlff_calc.datasets.smiles import NamedSmiles, canonical
from mlff_calc.datasets.starts import starts
from mlff_calc.datasets.strained_bonds import with_strained_bonds
from mlff_calc.errors import DatasetError, OptionError, StructureError
from mlff_calc.graph.rmsd import FloatArray
from mlff_calc.whole_files import replacing

USUAL = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br")
"""Elements that are allowed by default."""
LEVELS = {"none": "", "gfn2": "GFN2-xTB"}
"""Levels of labels by the names of the option."""
LEFT_OUT = {
    "duplicate": "the molecule of an earlier SMILES",
    "charge": "charged",
    "isotope": "isotopes",
    "element": "other elements",
    "size": "too many atoms",
    "parameters": "MMFF94 lacks parameters",
    "minimum": "no minimum of MMFF94",
    "label": "no label",
    "unreadable": "unreadable",
    "mixture": "several molecules in one",
    "radical": "radicals",
    "embedding": "no positions",
}
"""Reasons why a SMILES gives no structures, with words for a count."""
MOST = {"conformers": 1000, "distortions": 10_000, "strained_bonds": 10_000, "way": 1000, "max_atoms": 1000}
"""Largest values of options."""


@dataclass(frozen=True)
class MoleculeStructures(ComputedKind[NamedSmiles]):
    """How structures are made of SMILES.

    Attributes:
        elements: Chemical symbols that are allowed.
        max_atoms: Largest number of atoms, hydrogens counted.
        conformers: Largest number of minima of a molecule.
        distortions: Number of distortions of each minimum.
        temperatures: Temperatures of the distortions in turn, K.
        strained_bonds: Number of structures of each minimum with a bond that is too short or too long.
        relax: Whether minima are those of GFN2-xTB.
        way: Number of structures, of each minimum, of the way from that of MMFF94.
        several: Whether a SMILES may hold several molecules, which are placed in contact.
        label: One of `LEVELS`.
        seed: Seed of positions and distortions.

    Raises:
        OptionError: A value is out of range.
    """

    elements: tuple[str, ...] = USUAL
    max_atoms: int = 20
    conformers: int = 1
    distortions: int = 0
    temperatures: tuple[float, ...] = (300.0,)
    strained_bonds: int = 0
    relax: bool = False
    way: int = 0
    several: bool = False
    label: str = "none"
    seed: int = 0
    suffixes: ClassVar[tuple[str, ...]] = (".extxyz", ".xyz")
    format: ClassVar[str] = "extended xyz"
    noun: ClassVar[str] = "SMILES"
    nouns: ClassVar[str] = "SMILES"
    sync_seconds: ClassVar[float] = 10.0

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            least = 1 if name in ("conformers", "max_atoms") else 0
            if not least <= getattr(self, name) <= most:
                raise OptionError(f"{name} is {getattr(self, name)}; give {least} to {most}")
        if not self.temperatures:
            raise OptionError("there is no temperature of distortions; give one or several, K")
        for temperature in self.temperatures:
            if not 0.0 < temperature <= 10_000.0:
                raise OptionError(f"the temperature of distortions is {temperature:g} K; give more than 0, at most 10000 K")
        if self.relax and self.label == "none":
            raise OptionError("minima of GFN2-xTB are for labels by it; give --label gfn2, or leave out --relax")
        if self.way and not self.relax:
            raise OptionError(f"{self.way} structures of the way to minima of GFN2-xTB are asked for; give --relax too")
        if self.label not in LEVELS:
            raise OptionError(f"there is no label {self.label!r}; give {' or '.join(LEVELS)}")
        if not 0 <= self.seed < 2**31:
            raise OptionError(f"the seed is {self.seed}; give 0 to {2**31 - 1}")

    def __str__(self) -> str:
        words = f"ETKDGv3 and MMFF94, seed {self.seed}, up to {self.conformers} conformers"
        at = ", ".join(f"{one:g}" for one in self.temperatures)
        words += f", relaxed by GFN2-xTB with {self.way} structures of the way" if self.relax else ""
        words += f", {self.distortions} distortions of each at {at} K" if self.distortions else ""
        words += f", {self.strained_bonds} with a strained bond" if self.strained_bonds else ""
        words += ", several molecules in contact" if self.several else ""
        return f"{words}, at most {self.max_atoms} atoms of {' '.join(sorted(self.elements))}"

    def head_of(self, items: Sequence[NamedSmiles]) -> dict[str, Any]:
        """Return the options; raises an OptionError where RDKit or tblite is missing."""
        del items
        rdkit_chem()
        if self.label == "gfn2":
            xtb_calculator(" Or leave out the labels by --label none.")
        return {"made": str(self), "level": LEVELS[self.label]}

    def mark(self, item: NamedSmiles) -> bytes:
        """Return the digest of SMILES, name and repetition."""
        return item.digest

    def of_item(self, item: NamedSmiles) -> Mapping[str, Any]:
        """Return canonical SMILES and name."""
        return {"smiles": _bytes(canonical(item.text)), "name": _bytes(item.name)}

    def alone(self) -> Alone | None:
        """Return nothing for labels: tblite has as many threads as it finds, and its end ends its process."""
        return nullcontext if self.label == "none" else None

    def compute(self, item: NamedSmiles) -> Mapping[str, Any]:
        """Make the structures of a molecule.

        Returns:
            `numbers` [n_atoms], `positions` [n_frames, n_atoms, 3], `conformer` and `distortion` [n_frames], `energy`
            [n_frames] and `forces` [n_frames, n_atoms, 3] with labels, and `problems` in words where frames have none.

        Raises:
            MoleculeError: The molecule is left out; the message begins with a word of `LEFT_OUT`.
        """
        try:
            return self._computed(item)
        except MoleculeError as error:
            raise MoleculeError(error.reason, f"{error.reason}: {item.text!r} ({error})") from error

    def _computed(self, item: NamedSmiles) -> Mapping[str, Any]:
        if item.first is not None:
            raise MoleculeError("duplicate", f"number {item.first} is the same molecule")
        molecule = self._checked(from_smiles(item.text, several=self.several))
        digest = hashlib.sha256(f"{self.seed} {canonical(item.text)}".encode()).digest()
        start, random = int.from_bytes(digest[:4], "little") >> 2, np.random.default_rng(list(digest))
        numbers = np.array(molecule.numbers, dtype=np.int64)
        level = GFN2(numbers) if self.label == "gfn2" else None
        frames, marks = [], []
        for number, minimum in enumerate(minima(molecule.mol, starts(molecule, self.conformers, start))):
            around = self._around(molecule, minimum, level, random)
            frames += around
            marks += [(number, k) for k in range(len(around))]
        conformer, distortion = np.array(marks, dtype=np.int64).T
        made = {"positions": np.array(frames), "conformer": conformer, "distortion": distortion}
        return {"numbers": numbers} | (made if level is None else _labelled(level, made))

    def _around(
        self, molecule: Molecule, minimum: FloatArray, level: GFN2 | None, random: np.random.Generator
    ) -> list[FloatArray]:
        """A minimum and the structures around it."""
        found = [minimum]
        if self.relax and level is not None:
            found = level.relaxed(minimum, self.way)
        minimum, way = found[0], found[1:]
        found = [minimum]
        for k, temperature in enumerate(self.temperatures):
            n = len(range(k, self.distortions, len(self.temperatures)))
            if n:
                found += list(distorted(molecule.mol, minimum, n, temperature, random))
        if self.strained_bonds:
            found += list(with_strained_bonds(molecule.mol, minimum, self.strained_bonds, random))
        return found + way

    def _checked(self, molecule: Molecule) -> Molecule:
        """Refuse a molecule that is charged, too large, or of other elements or isotopes."""
        atoms = list(molecule.mol.GetAtoms())
        if molecule.charge:
            raise MoleculeError("charge", f"its total charge is {molecule.charge} e, and only neutral molecules are taken")
        isotope = next((atom for atom in atoms if atom.GetIsotope()), None)
        if isotope is not None:
            raise MoleculeError("isotope", f"it names the isotope {isotope.GetIsotope()}{isotope.GetSymbol()}")
        other = sorted({atom.GetSymbol() for atom in atoms} - set(self.elements))
        if other:
            raise MoleculeError("element", f"it holds {' '.join(other)}, and allowed are {' '.join(self.elements)}")
        if len(atoms) > self.max_atoms:
            raise MoleculeError("size", f"it has {len(atoms)} atoms, and at most {self.max_atoms} are taken")
        return molecule

    def write(self, path: Path, journal: LabelJournal) -> None:
        """Write the frames; those of one molecule at a time are in memory."""
        failures = dict(journal.failures())
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for number in journal.labelled():
                held = journal.label(number)
                ase.io.extxyz.write_xyz(file, self._frames(held))
                if "problems" in held:
                    failures[number] = _text(held["problems"])
        write_failures(path, sorted(failures.items()))

    def _frames(self, held: Mapping[str, Any]) -> list[Atoms]:
        level: dict[str, str | int] = {} if self.label == "none" else {LEVEL: LEVELS[self.label]}
        texts = {key: as_written(_text(held[key])) for key in ("smiles", "name") if len(held[key])}
        frames = []
        for k, positions in enumerate(held["positions"]):
            info: dict[str, str | int] = {
                **texts, SOURCE: int(held["source"]), "conformer": int(held["conformer"][k]),
                "distortion": int(held["distortion"][k]), "made": str(self), **level,
            }  # fmt: skip
            atoms = Atoms(held["numbers"], positions, info=info)
            if level:
                energy, forces = float(held["energy"][k]), held["forces"][k]
                atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            frames.append(atoms)
        return frames

    def read(self, path: Path) -> WholeFile:
        """Read what a file holds; see `ItemKind.read`."""
        frames = [atoms.info for _, atoms in read_frames_with_ase(path, ":", "extxyz")]
        if not frames or any(key not in info for info in frames for key in (SOURCE, "smiles", "made")):
            raise DatasetError(f"{path} does not say from which SMILES it was made; make it with `mlff data molecules`")
        found = {(str(info["made"]), str(info.get(LEVEL, ""))) for info in frames}
        now = (str(self), LEVELS[self.label])
        differences = [f"{', '.join(filter(None, one))}, now {', '.join(filter(None, now))}" for one in found - {now}]
        sources, smiles = [int(info[SOURCE]) for info in frames], [str(info["smiles"]) for info in frames]
        return WholeFile(differences, sources, smiles, read_failures(path))

    def is_of(self, whole: WholeFile, items: Sequence[NamedSmiles]) -> bool:
        """Compare SMILES."""
        return all(canonical(items[k].text) == smiles for k, smiles in zip(whole.sources, whole.contents, strict=True))


def _labelled(level: GFN2, made: Mapping[str, Any]) -> dict[str, Any]:
    """Label frames by GFN2-xTB in eV and Angstrom; frames without a label are left out, and named in `problems`."""
    energies, forces, problems = [], [], {}
    for k, positions in enumerate(made["positions"]):
        try:
            energy, own = level.label(positions)
        except StructureError as error:
            problems[k] = str(error)
            continue
        energies.append(energy)
        forces.append(own)
    if not energies:
        raise MoleculeError("label", f"GFN2-xTB gives none ({problems[0]})")
    kept = [k for k in range(len(made["positions"])) if k not in problems]
    found = {name: values[kept] for name, values in made.items()}
    found |= {"energy": np.array(energies), "forces": np.array(forces)}
    if problems:
        first = min(problems)
        n = len(made["positions"])
        words = f"label: {len(problems)} of {n} frames have none, such as frame {first} ({problems[first]})"
        found["problems"] = _bytes(words)
    return found


def _bytes(text: str) -> Any:  # noqa: ANN401
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _text(held: Any) -> str:  # noqa: ANN401
    return bytes(held).decode(errors="replace")
