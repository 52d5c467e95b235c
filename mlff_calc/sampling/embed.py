"""Starting positions of conformers: RDKit's distance geometry, with a ladder of ways for molecules that resist.

1. ETKDGv3 (with its terms for macrocycles and small rings);
2. from random coordinates, for bridged and crowded molecules;
3. the same with many more tries;
4. without the knowledge of torsions and planarity, relaxed by MMFF94s or UFF.

A rung is tried where the one before gives nothing. Source: Wang, Witek, Landrum, Riniker, J. Chem. Inf.
Model. 60, 2044 (2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_calc.errors import OptionError
from mlff_calc.sampling.molecules import Molecule, MoleculeError, quiet, rdkit_chem
from mlff_calc.sampling.systems import FloatArray

if TYPE_CHECKING:
    from rdkit.Chem import Mol

PRUNE = 0.1
"""RMSD of heavy atoms (Angstrom) below which two starts are one. Raising it gives fewer, more different starts."""
RUNGS = ("etkdg", "random coordinates", "many tries", "no knowledge")


@dataclass(frozen=True)
class Embedded:
    """Starting positions.

    Attributes:
        positions: [n_conformers, n_atoms, 3] Angstrom.
        rung: Rung of `RUNGS` that gave them.
    """

    positions: FloatArray
    rung: str


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


def embed(molecule: Molecule, n: int, seed: int) -> Embedded:
    """Starting positions of up to `n` conformers; fewer where RDKit finds no more that differ.

    Args:
        molecule: Conformers that it has are not used.
        n: Number of conformers.
        seed: Seed of RDKit's random numbers, 0 or more.

    Raises:
        MoleculeError: No rung gives a conformer (reason `embedding`); the message says what RDKit counts as failures.
        OptionError: `n` or `seed` out of range.
    """
    if n < 1 or not 0 <= seed < 2**31 - 1:
        raise OptionError(f"{n} conformers with seed {seed}; give at least 1, and a seed from 0 to 2147483646")
    chem = rdkit_chem()
    mol = chem.Mol(molecule.mol)
    mol.RemoveAllConformers()
    if mol.GetNumAtoms() == 1:
        return Embedded(np.zeros((1, 1, 3)), RUNGS[0])
    failures: dict[str, int] = {}
    for number, rung in enumerate(RUNGS):
        positions = _try(mol, n, seed, number, failures)
        if len(positions):
            return Embedded(positions, rung)
    why = ", ".join(f"{name} {count}" for name, count in sorted(failures.items(), key=lambda item: -item[1])[:4])
    raise MoleculeError(
        "embedding",
        f"{molecule.source!r}: RDKit finds no positions for it in {len(RUNGS)} ways (failures: {why or 'none counted'}); "
        "check its stereo, or give a file with positions",
    )


def _try(mol: Mol, n: int, seed: int, rung: int, failures: dict[str, int]) -> FloatArray:
    """Positions [n_found, n_atoms, 3] that one rung gives."""
    from rdkit.Chem import rdDistGeom

    settings: Any = rdDistGeom.ETKDGv3()  # the stubs give its options no types
    settings.randomSeed = seed + 1  # RDKit multiplies it by the number of the conformer
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
            numbers = list(rdDistGeom.EmbedMultipleConfs(mol, n, settings))
        except (ValueError, RuntimeError):  # of molecules that it cannot set up at all
            numbers = []
    for name, count in _counted(settings, rdDistGeom).items():
        failures[name] = failures.get(name, 0) + count
    if rung == len(RUNGS) - 1 and numbers:
        _relax(mol)
    found = np.array([mol.GetConformer(number).GetPositions() for number in numbers])
    return found.reshape(-1, mol.GetNumAtoms(), 3)


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
