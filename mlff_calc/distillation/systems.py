"""The systems of a distillation: structures in files, molecules of SMILES, and what is made of them.

A part of the systems is held out for good. Of molecules that may be one, and of a crystal and what is made of it, all are
held out or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlff_calc.charges import charge_of
from mlff_calc.datasets import existing_file
from mlff_calc.datasets.ase_files import read_frames_with_ase
from mlff_calc.datasets.molecules import MoleculeError, canonical_smiles, from_smiles
from mlff_calc.datasets.pairs import drawn_pairs
from mlff_calc.datasets.smiles import NamedSmiles, with_fragments
from mlff_calc.datasets.starts import structures
from mlff_calc.distillation.crystals import slab_of, vacancies
from mlff_calc.distillation.recipe import DistillationRecipe
from mlff_calc.distillation.sections import SystemsSection
from mlff_calc.errors import OptionError, RecipeError, StructureError


@dataclass(frozen=True)
class System:
    """A molecule or crystal.

    Attributes:
        name: Name in files.
        starts: Structures as they are given or relaxed, from which others are made and trajectories begin.
        mol: RDKit's molecule, of a SMILES.
        is_held_out: Whether no student ever learns it.
        parent: Name of the system of which it was made, which is held out with it.
    """

    name: str
    starts: list[Atoms]
    mol: Any = None
    is_held_out: bool = False
    parent: str = ""


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
    if not faults:
        try:
            found += _made_of_smiles(section, recipe.seed)
        except (MoleculeError, OptionError) as error:
            faults.append(str(error))
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
        replace(system, name=name if names.count(name) == 1 else f"{name}-{k}")
        for k, (name, system) in enumerate(zip(names, found, strict=True))
    ]
    if (section.vacancies or section.surfaces) and not any(one.starts[0].pbc.all() for one in found):
        raise RecipeError(
            f"{recipe.origin}: systems: vacancies and surfaces are made of crystals, and no structure of the files is "
            "periodic in three directions; leave them out, or set pbc"
        )
    try:
        found += [new for one in found for new in _made_of_crystal(one, section, recipe.seed)]
    except StructureError as error:
        raise RecipeError(f"{recipe.origin}: systems: {error}") from error
    groups = _groups(found)
    n_out = min(max(1, round(section.held_out * len(groups))), len(groups) - 1)
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{recipe.seed} {found[group[0]].name}".encode()).digest())
    out = _spare(found, order, n_out)
    return [replace(one, is_held_out=k in out) for k, one in enumerate(found)]


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
        found.setdefault(one.parent or (formula if formula in of_files else f"{formula} {k}"), []).append(k)
    for k, one in enumerate(systems):
        if one.name in found and k not in found[one.name]:  # what was made of it joins its group
            next(group for group in found.values() if k in group).extend(found.pop(one.name))
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
    """A molecule, or several in contact, with its conformers, minima of MMFF94."""
    molecule = from_smiles(smiles, several=True)
    return System(smiles, structures(molecule, n, seed), molecule.mol)


def _made_of_smiles(section: SystemsSection, seed: int) -> list[System]:
    """Fragments and pairs of the SMILES; fragments that cannot be used are left out."""
    found = []
    if section.fragments:
        given = [NamedSmiles(smiles, "") for smiles in section.smiles]
        for one in with_fragments(given)[len(given) :]:
            try:
                found.append(_of_smiles(one.text, section.conformers, seed))
            except MoleculeError:
                continue
    single = [smiles for smiles in section.smiles if "." not in smiles]
    return found + [_of_smiles(pair, section.conformers, seed) for pair in drawn_pairs(section.pairs, single, seed)]


def _made_of_crystal(system: System, section: SystemsSection, seed: int) -> list[System]:
    """Supercells with a vacancy, and slabs, of the first structure of a crystal.

    Raises:
        StructureError: A cell would be too large.
    """
    first = system.starts[0]
    if not first.pbc.all():
        return []
    made = [(f"vacancy {k + 1}", atoms) for k, atoms in enumerate(vacancies(first, section.vacancies, seed))]
    made += [("surface " + " ".join(map(str, indices)), slab_of(first, indices)) for indices in section.surfaces]
    return [System(f"{system.name} {what}", [atoms], parent=system.name) for what, atoms in made]
