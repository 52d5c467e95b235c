"""What share of the low conformers equal numbers of relaxations find: ours, and distance geometry with and without MMFF94s.

The reference of a molecule is the union of all runs and of longer ones of all ways. A conformer of it within 3 kcal/mol
counts as found where a search has one of the same energy within 0.1 kcal/mol and an RMSD of at most 0.25 Angstrom, over
symmetries.
A conformer and its mirror image count once where both are the molecule: no way has an advantage by taking both.

| way | starts of the relaxations |
|---|---|
| `ours` | those of `mlff conformers` |
| `mmff` | n structures by distance geometry, each relaxed by MMFF94s |
| `etkdg` | n structures by distance geometry |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from mlff_calc.datasets.embed import embed
from mlff_calc.datasets.molecules import Molecule, read_molecules
from mlff_calc.sampling.calculators import evaluator_of
from mlff_calc.sampling.duplicates import ENERGY, KCAL, MIRROR, distinct
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.identity import Identity
from mlff_calc.sampling.pieces import PieceStore
from mlff_calc.sampling.relax import relax_systems
from mlff_calc.sampling.starts import by_mmff, starting_structures
from mlff_calc.sampling.symmetry import best_rmsd
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


def search(molecule: Molecule, starts: FloatArray, evaluator: Evaluator, fmax: float, store: PieceStore) -> Conformers:
    """Conformers that relaxations from some starts give, each once; work that the store holds is not done again."""

    def relaxed(starts: FloatArray) -> dict[str, Any]:
        systems, positions = Systems.of([Atoms(molecule.numbers, place) for place in starts])
        ends = relax_systems(systems, positions, evaluator, fmax=fmax)
        return {"places": ends.positions.reshape(starts.shape), "energies": ends.energies, "converged": ends.converged}

    found, identity = store.piece("recall", starts, relaxed), Identity(molecule)
    places = found["places"]
    good = [k for k in range(len(places)) if found["converged"][k] and identity.change(places[k]) is None]
    return without_duplicates(molecule, (found["energies"][good], places[good]))


def is_its_image(molecule: Molecule, places: FloatArray) -> bool:
    """Whether mirror images of conformers [n, n_atoms, 3] are the same molecule."""
    return len(places) > 0 and Identity(molecule).image(places[0]) is not None


def without_duplicates(molecule: Molecule, found: Conformers) -> Conformers:
    """Each conformer once, by rising energy, one of two mirror images."""
    energies, places = found
    mirror = is_its_image(molecule, places)
    kept = distinct(molecule, places, energies, atomic_masses[molecule.numbers], RMSD, mirror)
    return energies[kept], places[kept]


def recall(molecule: Molecule, reference: Conformers, found: Conformers) -> float:
    """Share of the reference's conformers within the window that were found."""
    low = reference[0] - reference[0].min() <= WINDOW
    images = [1.0, MIRROR] if is_its_image(molecule, reference[1]) else [1.0]
    hits = 0
    for energy, place in zip(reference[0][low], reference[1][low], strict=True):
        near = found[1][np.abs(found[0] - energy) <= ENERGY]
        hits += any(best_rmsd(molecule, place, other * image) <= RMSD for other in near for image in images)
    return hits / int(low.sum())


def measure_recall(
    molecules: Sequence[str] = MOLECULES,
    calculator: str = "gfn2-xtb",
    *,
    n: int = 20,
    seeds: int = 2,
    fmax: float = 0.02,
    folder: Path | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Recall of all ways for each molecule, as a mean over seeds.

    Args:
        molecules: SMILES.
        calculator: See `evaluator_of`.
        n: Number of relaxations of a run; one more run of each way, for the reference, has three times as many.
        seeds: Number of runs of each way.
        fmax: eV/Angstrom.
        folder: Folder in which finished relaxations are kept, so that a study that was stopped goes on; None keeps nothing.
        on_row: Called with every row as it is made.

    Raises:
        MoleculeError: A molecule cannot be read or embedded.
        OptionError: The calculator cannot be used.
    """
    rows = []
    for smiles in molecules:
        (molecule,) = read_molecules(smiles)
        evaluator = evaluator_of(calculator, charge=molecule.charge)
        store = PieceStore(folder, {"molecule": smiles, "calculator": evaluator.name(), "fmax": fmax})

        def found_by(way: str, n: int, seed: int) -> Conformers:
            return search(molecule, starts_of(way, molecule, n, seed), evaluator, fmax, store)  # noqa: B023 - used here

        found = {way: [found_by(way, n, seed) for seed in range(seeds)] for way in WAYS}
        every = [one for runs in found.values() for one in runs]
        every += [found_by(way, 3 * n, seeds) for way in WAYS]
        energies, places = (np.concatenate(parts) for parts in zip(*every, strict=True))
        joined = without_duplicates(molecule, (energies, places))
        row: dict[str, Any] = {"molecule": smiles, "reference": int((joined[0] - joined[0].min() <= WINDOW).sum())}
        for way, runs in found.items():
            row[way] = float(np.mean([recall(molecule, joined, one) for one in runs]))
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows
