"""Structures to begin with: those that are given, rattled and strained, and molecules of SMILES with dynamics by MMFF94.

A part of the systems is held out for good. Of a single system, frames of a draw of their own are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlff_calc.charges import charge_of
from mlff_calc.datasets import existing_file
from mlff_calc.datasets.ase_files import read_frames_with_ase
from mlff_calc.datasets.molecules import MoleculeError, canonical_smiles, from_smiles
from mlff_calc.datasets.starts import structures
from mlff_calc.distillation.recipe import DistillationRecipe, SystemsSection
from mlff_calc.distillation.warm import warm_frames
from mlff_calc.errors import RecipeError, StructureError

TRAIN, HELD_OUT, AUDIT = "train", "held_out", "audit"
"""Parts of frames."""


@dataclass(frozen=True)
class System:
    """A molecule or crystal.

    Attributes:
        name: Name in files.
        starts: Structures as they are given or relaxed, from which others are made and trajectories begin.
        mol: RDKit's molecule, of a SMILES.
        is_held_out: Whether no student ever learns it.
    """

    name: str
    starts: list[Atoms]
    mol: Any = None
    is_held_out: bool = False


def read_systems(recipe: DistillationRecipe) -> list[System]:
    """Read the systems of a recipe, and choose those that are held out.

    Raises:
        RecipeError: A file is missing or holds no structures, a SMILES cannot be used, or a package is missing; every
            fault is named.
    """
    section, found, faults = recipe.systems, list[System](), list[str]()
    for file in section.files:
        try:
            found += _of_file(existing_file(recipe.resolve(file)), Path(file).stem)
        except (OSError, ValueError) as error:
            faults.append(str(error))
    for smiles in section.smiles:
        try:
            found.append(_of_smiles(smiles, section.conformers, recipe.seed))
        except MoleculeError as error:
            faults.append(f"SMILES {smiles!r}: {error.reason}: {error}")
    if faults:
        raise RecipeError(f"{recipe.origin}: systems: " + "; ".join(faults))
    charges: dict[str, set[int]] = {}
    for system in found:
        charges.setdefault(system.starts[0].get_chemical_formula(), set()).add(charge_of(system.starts[0]))
    for formula, several in charges.items():
        if len(several) > 1:
            raise RecipeError(
                f"{recipe.origin}: systems: {formula} is given with the charges {', '.join(map(str, sorted(several)))}, "
                "which students cannot tell apart; give one of them, or make a potential for each"
            )
    found = _each_once(found)
    names = [system.name for system in found]
    found = [
        System(name if names.count(name) == 1 else f"{name}-{k}", system.starts, system.mol)
        for k, (name, system) in enumerate(zip(names, found, strict=True))
    ]
    groups = _groups(found)
    n_out = min(max(1, round(section.held_out * len(groups))), len(groups) - 1)
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{recipe.seed} {found[group[0]].name}".encode()).digest())
    out = _spare(found, order, n_out)
    return [System(one.name, one.starts, one.mol, k in out) for k, one in enumerate(found)]


def _each_once(systems: Sequence[System]) -> list[System]:
    """Systems without those whose SMILES tell a molecule that an earlier one told."""
    seen: set[str] = set()
    found = []
    for system in systems:
        same = canonical_smiles(system.mol) if system.mol is not None else ""
        if not same or same not in seen:
            found.append(system)
        seen.add(same)
    return found


def _groups(systems: Sequence[System]) -> list[list[int]]:
    """Systems that may be one molecule: frames of a file, and whatever has their composition."""
    of_files = {one.starts[0].get_chemical_formula() for one in systems if one.mol is None}
    found: dict[str, list[int]] = {}
    for k, one in enumerate(systems):
        formula = one.starts[0].get_chemical_formula()
        found.setdefault(formula if formula in of_files else f"{formula} {k}", []).append(k)
    return list(found.values())


def _spare(systems: Sequence[System], order: Sequence[Sequence[int]], n_out: int) -> set[int]:
    """Systems of groups to hold out, none of which has an element that the others lack."""
    out: set[int] = set()
    n_groups = 0
    for group in order:
        rest = [one for j, one in enumerate(systems) if j not in group and j not in out]
        known = {int(z) for one in rest for z in one.starts[0].numbers}
        if n_groups < n_out and all(int(z) in known for k in group for z in systems[k].starts[0].numbers):
            out |= set(group)
            n_groups += 1
    return out


def _of_file(path: Path, name: str) -> list[System]:
    """Systems of a file: frames of one composition and periodicity are one."""
    groups: dict[tuple[str, tuple[bool, ...]], list[Atoms]] = {}
    for number, atoms in read_frames_with_ase(path, ":", None):
        if len(atoms) == 0:
            raise StructureError(f"{path}, frame {number} has no atoms; leave it out")
        if len(atoms) > 1 and not _is_apart(atoms):
            raise StructureError(f"{path}, frame {number}: two atoms are at the same place; correct it")
        charge = charge_of(atoms)
        plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        plain.info |= {"charge": charge} if charge else {}
        groups.setdefault((f"{atoms.get_chemical_formula()} {charge}", tuple(atoms.pbc.tolist())), []).append(plain)
    if len(groups) == 1:
        return [System(name, starts) for starts in groups.values()]
    return [System(f"{name}-{formula.split()[0]}", starts) for (formula, _), starts in groups.items()]


def _is_apart(atoms: Atoms) -> bool:
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
    return bool(distances[np.triu_indices(len(atoms), 1)].min() > 0.1)


def _of_smiles(smiles: str, n: int, seed: int) -> System:
    """A molecule with its conformers, minima of MMFF94."""
    molecule = from_smiles(smiles)
    return System(smiles, structures(molecule, n, seed), molecule.mol)


def seed_frames(recipe: DistillationRecipe, systems: Sequence[System], n_frames: int) -> list[Atoms]:
    """Frames of round 0.

    Args:
        recipe: Recipe.
        systems: Systems.
        n_frames: Number of frames of all systems together, about.

    Returns:
        Frames with `part`, `system` and `made` in `info`.
    """
    each = max(2, n_frames // len(systems))
    each = min(each, recipe.systems.frames or each)
    frames: list[Atoms] = []
    for system in systems:
        part = HELD_OUT if system.is_held_out else TRAIN
        frames += _frames_of(system, recipe.systems, each, part, recipe.seed)
    if not any(system.is_held_out for system in systems):
        n_out = max(2, round(recipe.systems.held_out * each))
        frames = []
        for system in systems:
            learned, kept = _parts_of(system, recipe.systems.held_out)
            frames += _frames_of(learned, recipe.systems, max(2, each - n_out), TRAIN, recipe.seed)
            frames += _frames_of(kept, recipe.systems, n_out, HELD_OUT, recipe.seed, 1)
    return frames


def _parts_of(system: System, share: float) -> tuple[System, System]:
    """A system with the structures to learn from, and with those that are held out: others, where there are several."""
    n = len(system.starts)
    n_out = min(max(1, round(share * n)), n - 1)
    if n_out < 1:
        return system, system
    out = {round((k + 0.5) * n / n_out - 0.5) for k in range(n_out)}
    parts = [[one for k, one in enumerate(system.starts) if (k in out) is held] for held in (False, True)]
    return System(system.name, parts[0], system.mol), System(system.name, parts[1], system.mol)


def _frames_of(system: System, section: SystemsSection, n: int, part: str, seed: int, draw: int = 0) -> list[Atoms]:
    """Frames of a system from a generator of its own; the structures as they are come first, unless it is another draw."""
    digest = hashlib.sha256(f"{seed} {system.name} {draw}".encode()).digest()
    random = np.random.default_rng(list(digest))
    n_starts = len(system.starts)
    spread = max(1.0, n_starts / n)  # few frames of many structures are taken from all over
    turns = [k // n_starts for k in range(n)]
    if system.mol is not None:
        warm = iter(warm_frames(
            system.mol, system.starts, section.temperatures, sum(turn % 4 > 0 for turn in turns), int(random.integers(2**31))
        ))  # fmt: skip
    frames = []
    for k, turn in enumerate(turns):
        atoms, made = system.starts[int(k * spread) % n_starts].copy(), "given"
        if system.mol is not None and turn % 4:
            atoms, temperature = next(warm)
            made = f"MMFF94 {temperature:g} K"
        elif turn or draw:
            made = _changed(atoms, section, turn, random)
        atoms.info |= {"part": part, "system": system.name, "made": made}
        frames.append(atoms)
    return frames


def _changed(atoms: Atoms, section: SystemsSection, turn: int, random: np.random.Generator) -> str:
    """Rattle a structure, and strain it if it is a crystal; returns how it was made."""
    made = ["strained"] if _strain(atoms, section, random) else []
    width = section.rattle[turn % len(section.rattle)]
    atoms.positions += random.normal(scale=width, size=atoms.positions.shape)
    return " ".join([*made, f"rattled {width:g}"])


def _strain(atoms: Atoms, section: SystemsSection, random: np.random.Generator) -> bool:
    """Strain the cell of a crystal; whether it is one."""
    if not (atoms.pbc.all() and section.strain):
        return False
    strain = random.uniform(-section.strain, section.strain, size=(3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
    return True


def strained(system: System, section: SystemsSection, random: np.random.Generator) -> Atoms:
    """A structure in which a trajectory begins: one of the system's, a crystal in a strained cell."""
    atoms = system.starts[int(random.integers(len(system.starts)))].copy()
    _strain(atoms, section, random)
    return atoms
