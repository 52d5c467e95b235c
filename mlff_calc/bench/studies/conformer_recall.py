"""What share of the low conformers equal numbers of relaxations find: ours, and distance geometry with and without MMFF94s.

The reference of a molecule is the union of longer runs of all ways. A conformer of it within 3 kcal/mol counts as found
where a search has one of the same energy within 0.1 kcal/mol and an RMSD of at most 0.25 Angstrom, over symmetries.

| way | starts of the relaxations |
|---|---|
| `ours` | those of `mlff conformers`, which takes mirror images without a relaxation |
| `mmff` | n structures by distance geometry, each relaxed by MMFF94s |
| `etkdg` | n structures by distance geometry |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from mlff_calc.sampling.calculators import evaluator_of
from mlff_calc.sampling.duplicates import ENERGY, KCAL, MIRROR, best_rmsd, distinct
from mlff_calc.sampling.embed import embed
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.identity import Identity
from mlff_calc.sampling.molecules import Molecule, read_molecules
from mlff_calc.sampling.relax import relax_systems
from mlff_calc.sampling.starts import by_mmff, starting_structures
from mlff_calc.sampling.systems import FloatArray, Systems

MOLECULES = ("OCC(O)CO", "NCCCO", "CC(C)C(N)C(=O)O", "COCCOC", "CCCCCO", "OC(=O)CCC(=O)O", "NCC(=O)NC", "CSCCC(N)=O",
             "CCOC(=O)CN", "OCCOCCO")  # fmt: skip
WAYS = ("ours", "mmff", "etkdg")
WINDOW, RMSD = 3.0 * KCAL, 0.25
Conformers = tuple[FloatArray, FloatArray]
"""Energies [n] (eV) and positions [n, n_atoms, 3] (Angstrom)."""


def starts_of(way: str, molecule: Molecule, n: int, seed: int) -> FloatArray:
    """Starting structures [at most n, n_atoms, 3] of one way."""
    if way == "ours":
        return starting_structures(molecule, n, seed).positions
    if way == "etkdg":
        return embed(molecule, n, seed).positions
    return by_mmff(molecule, embed(molecule, n, seed).positions)[0]


def relaxed(molecule: Molecule, starts: FloatArray, evaluator: Evaluator, fmax: float) -> Conformers:
    """What is left of structures after relaxation, without duplicates."""
    systems, positions = Systems.of([Atoms(molecule.numbers, place) for place in starts])
    ends = relax_systems(systems, positions, evaluator, fmax=fmax)
    places, identity = ends.positions.reshape(starts.shape), Identity(molecule)
    good = [k for k in range(len(starts)) if ends.converged[k] and identity.change(places[k]) is None]
    return without_duplicates(molecule, (ends.energies[good], places[good]))


def search(way: str, molecule: Molecule, n: int, seed: int, evaluator: Evaluator, fmax: float) -> Conformers:
    """Conformers by `n` relaxations of one way; ours takes their mirror images as well, where they are the same molecule."""
    energies, places = relaxed(molecule, starts_of(way, molecule, n, seed), evaluator, fmax)
    if way == "ours" and len(places) and Identity(molecule).change(places[0] * MIRROR) is None:
        return without_duplicates(molecule, (np.tile(energies, 2), np.concatenate([places, places * MIRROR])))
    return energies, places


def without_duplicates(molecule: Molecule, found: Conformers) -> Conformers:
    """Each conformer once, by rising energy."""
    energies, places = found
    kept = distinct(molecule, places, energies, atomic_masses[molecule.numbers], RMSD)
    return energies[kept], places[kept]


def recall(molecule: Molecule, reference: Conformers, found: Conformers) -> float:
    """Share of the reference's conformers within the window that were found."""
    low = reference[0] - reference[0].min() <= WINDOW
    hits = 0
    for energy, place in zip(reference[0][low], reference[1][low], strict=True):
        near = np.abs(found[0] - energy) <= ENERGY
        hits += any(best_rmsd(molecule, place, other) <= RMSD for other in found[1][near])
    return hits / int(low.sum())


def measure_recall(
    molecules: Sequence[str] = MOLECULES,
    calculator: str = "gfn2-xtb",
    *,
    n: int = 20,
    seeds: int = 2,
    fmax: float = 0.02,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Recall of all ways for each molecule, as a mean over seeds.

    Args:
        molecules: SMILES.
        calculator: See `evaluator_of`.
        n: Number of relaxations of a run; one more run of each way, for the reference, has three times as many.
        seeds: Number of runs of each way.
        fmax: eV/Angstrom.
        on_row: Called with every row as it is made.

    Raises:
        MoleculeError: A molecule cannot be read or embedded.
        OptionError: The calculator cannot be used.
    """
    rows = []
    for smiles in molecules:
        (molecule,) = read_molecules(smiles)
        evaluator = evaluator_of(calculator, charge=molecule.charge)
        found = {
            way: [search(way, molecule, n, seed, evaluator, fmax) for seed in range(seeds)]
            for way in WAYS
        }
        every = [one for runs in found.values() for one in runs]
        every += [search(way, molecule, 3 * n, seeds, evaluator, fmax) for way in WAYS]
        energies, places = (np.concatenate(parts) for parts in zip(*every, strict=True))
        joined = without_duplicates(molecule, (energies, places))
        row: dict[str, Any] = {"molecule": smiles, "reference": int((joined[0] - joined[0].min() <= WINDOW).sum())}
        for way, runs in found.items():
            row[way] = float(np.mean([recall(molecule, joined, one) for one in runs]))
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows
