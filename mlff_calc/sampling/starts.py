"""Which of many possible starts are relaxed: a force field that costs next to nothing chooses among them.

A relaxation by a good calculator is dear, and of structures by distance geometry many end in the same conformer. So more of
them are made than are asked for, relaxed by MMFF94s, and those that differ are taken by rising energy, one of two mirror
images. Where there are fewer of them than asked for, or MMFF94s lacks parameters, structures by distance geometry fill the
rest, so that what the force field takes for one conformer and the calculator for two is found as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses

from mlff_calc.sampling.duplicates import KCAL, MIRROR, distinct
from mlff_calc.sampling.embed import embed
from mlff_calc.sampling.identity import Identity, with_positions
from mlff_calc.sampling.molecules import Molecule, quiet
from mlff_calc.sampling.systems import FloatArray

SCREENED = "mmff"
"""Name of what MMFF94s has relaxed, as a source."""


@dataclass(frozen=True)
class Starts:
    """Starting structures.

    Attributes:
        positions: [n, n_atoms, 3] Angstrom.
        sources: What made each [n]: `SCREENED`, or a rung of distance geometry.
    """

    positions: FloatArray
    sources: list[str]


def starting_structures(
    molecule: Molecule, n: int, seed: int, screen: int = 5, on_progress: Callable[[str, int, int], None] | None = None
) -> Starts:
    """Up to `n` starts.

    Args:
        molecule: Its conformers are not used.
        n: Number of starts.
        seed: Seed of distance geometry.
        screen: Number of structures by distance geometry for each start, from which MMFF94s chooses; 1 for no choice.
        on_progress: Called with the name of the task, the number of finished structures and of all.

    Raises:
        MoleculeError: See `embed`.
        OptionError: See `embed`.
    """
    made = embed(molecule, n * screen, seed)
    chosen = np.zeros((0, *made.positions.shape[1:]))
    if screen > 1:
        places, energies = by_mmff(molecule, made.positions, on_progress)
        if len(places):
            mirror = Identity(molecule).change(places[0] * MIRROR) is None
            masses = atomic_masses[molecule.numbers]
            chosen = places[distinct(molecule, places, energies, masses, mirror=mirror)[:n]]
    rest = made.positions[: n - len(chosen)]
    return Starts(np.concatenate([chosen, rest]), [SCREENED] * len(chosen) + [made.rung] * len(rest))


def by_mmff(
    molecule: Molecule, places: FloatArray, on_progress: Callable[[str, int, int], None] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Structures [n, n_atoms, 3] after relaxation by MMFF94s, and their energies [n] (eV); none where it lacks parameters.

    Structures that are no longer the molecule are left out.
    """
    from rdkit.Chem import rdForceFieldHelpers

    nothing = np.zeros((0, *places.shape[1:])), np.zeros(0)
    if len(molecule.numbers) < 2 or not rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule.mol):
        return nothing
    identity, found, energies = Identity(molecule), [], []
    with quiet():
        for number, place in enumerate(places):
            if on_progress is not None:
                on_progress("choosing starts by MMFF94s", number + 1, len(places))
            mol = with_positions(molecule, place)
            ((_, energy),) = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, maxIters=2000, mmffVariant="MMFF94s")
            relaxed = mol.GetConformer().GetPositions()
            if np.isfinite(energy) and identity.change(relaxed) is None:
                found.append(relaxed)
                energies.append(energy * KCAL)
    return (np.array(found), np.array(energies)) if found else nothing
