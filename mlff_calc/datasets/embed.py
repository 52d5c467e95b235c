"""Starting positions of conformers: RDKit's distance geometry, with a ladder of ways for molecules that resist.

1. ETKDGv3 (with its terms for macrocycles and small rings);
2. from random coordinates, for bridged and crowded molecules;
3. the same with many more tries;
4. without the knowledge of torsions and planarity, relaxed by MMFF94s or UFF.

A rung is tried where the one before gives nothing. Without a budget of time, RDKit makes all structures in one call; with
one, the same structures are made one by one, until a share of it is used up. Source: Wang, Witek, Landrum, Riniker, J. Chem.
Inf. Model. 60, 2044 (2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_calc.clock import Clock
from mlff_calc.datasets.molecules import Molecule, MoleculeError, quiet, rdkit_chem
from mlff_calc.errors import OptionError
from mlff_calc.graph.rmsd import FloatArray, rmsds

if TYPE_CHECKING:
    from rdkit.Chem import Mol

PRUNE = 0.1
"""RMSD of heavy atoms (Angstrom) below which two starts are one. Raising it gives fewer, more different starts."""
SHARE = 0.25
"""Share of a budget of time after which no more structures are made. Raising it leaves less of it for what follows."""
RUNGS = ("etkdg", "random coordinates", "many tries", "no knowledge")


@dataclass(frozen=True)
class Embedded:
    """Starting positions.

    Attributes:
        positions: [n_conformers, n_atoms, 3] Angstrom.
        rung: Rung of `RUNGS` that gave them.
        is_whole: Whether as many were tried as were asked for; False where a budget of time ended it.
    """

    positions: FloatArray
    rung: str
    is_whole: bool = True


def number_of_conformers(molecule: Molecule) -> int:
    """Number of starts that a molecule gets where none is asked for: it grows with rotatable bonds and flexible rings.

    20 for a rigid molecule and 300 at most; a bond counts for 10 and the square of their number for 5, a ring atom that is
    neither aromatic nor double for 3.
    """
    from rdkit.Chem import rdMolDescriptors

    bonds = rdMolDescriptors.CalcNumRotatableBonds(molecule.mol)
    loose = sum(
        bond.IsInRing() and not bond.GetIsAromatic() and bond.GetBondTypeAsDouble() == 1.0
        for bond in molecule.mol.GetBonds()
    )
    return int(min(300, 20 + 10 * bonds + 5 * bonds**2 + 3 * loose))


def embed(molecule: Molecule, n: int, seed: int, clock: Clock | None = None) -> Embedded:
    """Starting positions of up to `n` conformers; fewer where RDKit finds no more that differ.

    Args:
        molecule: Conformers that it has are not used.
        n: Number of conformers.
        seed: Seed of RDKit's random numbers, 0 or more.
        clock: Budget of time, of which a share is used; one structure is tried in any case.

    Raises:
        MoleculeError: No rung gives a conformer (reason `embedding`); the message says what RDKit counts as failures. Or the
            budget ended before there was one (reason `time`).
        OptionError: `n` or `seed` out of range.
    """
    if n < 1 or not 0 <= seed < 2**31 - 2:  # with the largest integer, RDKit makes the same conformer again and again
        raise OptionError(f"{n} conformers with seed {seed}; give at least 1, and a seed from 0 to 2147483645")
    chem, clock = rdkit_chem(), clock or Clock()
    mol = chem.Mol(molecule.mol)
    mol.RemoveAllConformers()
    if mol.GetNumAtoms() == 1:
        return Embedded(np.zeros((1, 1, 3)), RUNGS[0])
    failures: dict[str, int] = {}
    for rung, name in enumerate(RUNGS):
        if clock.is_limited:
            is_whole = _one_by_one(mol, n, seed, rung, failures, clock)
        else:
            is_whole = _embed(mol, n, seed + 1, rung, failures)
        if mol.GetNumConformers():
            if rung == len(RUNGS) - 1:
                _relax(mol)
            return Embedded(np.array([one.GetPositions() for one in mol.GetConformers()]), name, is_whole)
        if clock.late():
            raise MoleculeError(
                "time",
                f"{molecule.source!r}: the budget of time ended before RDKit found first positions for it; give more "
                "minutes, or a file with positions",
            )
    why = ", ".join(f"{name} {count}" for name, count in sorted(failures.items(), key=lambda item: -item[1])[:4])
    raise MoleculeError(
        "embedding",
        f"{molecule.source!r}: RDKit finds no positions for it in {len(RUNGS)} ways (failures: {why or 'none counted'}); "
        "check its stereo, or give a file with positions",
    )


def _embed(mol: Mol, n: int, seed: int, rung: int, failures: dict[str, int], timeout: int = 0) -> bool:
    """Give a molecule the conformers that one rung finds within `timeout` seconds (0 for any time), in place; True."""
    from rdkit.Chem import rdDistGeom

    settings: Any = rdDistGeom.ETKDGv3()  # the stubs give its options no types
    settings.randomSeed = seed  # RDKit multiplies it by the number of the conformer
    settings.timeout = timeout
    settings.numThreads = 1  # the same conformers on every machine
    settings.pruneRmsThresh = PRUNE
    settings.useSmallRingTorsions = True
    settings.trackFailures = True
    settings.enforceChirality = True
    settings.onlyHeavyAtomsForRMS = settings.useSymmetryForPruning = False  # hydroxyl groups count
    settings.useRandomCoords = rung > 0
    settings.maxIterations = (0, 0, 2000, 2000)[rung]
    if rung == len(RUNGS) - 1:
        settings.useBasicKnowledge = settings.useExpTorsionAnglePrefs = False
    with quiet():
        try:
            rdDistGeom.EmbedMultipleConfs(mol, n, settings)
        except (ValueError, RuntimeError):  # of molecules that it cannot set up at all
            mol.RemoveAllConformers()
    for name, count in _counted(settings, rdDistGeom).items():
        failures[name] = failures.get(name, 0) + count
    return True


def _one_by_one(mol: Mol, n: int, seed: int, rung: int, failures: dict[str, int], clock: Clock) -> bool:
    """Give a molecule the conformers of `_embed`, with a look at the clock before each; whether all `n` were tried."""
    chem = rdkit_chem()
    places = np.zeros((n, mol.GetNumAtoms(), 3))
    for number in range(n):
        kept = mol.GetNumConformers()
        share = SHARE if kept else 1.0
        if number and clock.late(share):
            return False
        one = chem.Mol(mol)
        one.RemoveAllConformers()
        _embed(one, 1, _seed_of(number, seed + 1), rung, failures, max(1, math.ceil(clock.left(share))))
        for conformer in one.GetConformers():
            places[kept] = conformer.GetPositions()
            if not kept or rmsds(places[kept], places[:kept]).min() > PRUNE:
                mol.AddConformer(chem.Conformer(conformer), assignId=True)
    return True


def _seed_of(number: int, seed: int) -> int:
    """The seed with which RDKit makes conformer `number` (from 0) of a call with `seed`.

    Source: RDKit, Embedder.cpp, where products that are no 32-bit integers are folded to 31 bits.
    """
    if (number + 1) * seed < 2**31:
        return (number + 1) * seed
    large = seed + max(number + 1, seed) * (number + 1)
    return (large & 0x7FFFFFFF) ^ (large >> 31)


def _counted(settings: Any, module: Any) -> dict[str, int]:
    """What RDKit counted as failures, by name."""
    counts = list(settings.GetFailureCounts())
    names = {int(value): name for name, value in module.EmbedFailureCauses.names.items()}
    return {names.get(k, str(k)).lower().replace("_", " "): int(count) for k, count in enumerate(counts) if count}


def _relax(mol: Mol) -> None:
    """Relax all conformers by MMFF94s, or by UFF where it lacks parameters."""
    from rdkit.Chem import rdForceFieldHelpers

    with quiet():
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, numThreads=1, maxIters=500, mmffVariant="MMFF94s")
        elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
            rdForceFieldHelpers.UFFOptimizeMoleculeConfs(mol, numThreads=1, maxIters=500)
