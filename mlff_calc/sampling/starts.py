"""Which of many possible starts are relaxed: a force field that costs next to nothing chooses among them.

A relaxation by a good calculator is dear, and of structures by distance geometry many end in the same conformer. So more of
them are made than are asked for, relaxed by MMFF94s, and those that differ are taken by rising energy, one of two mirror
images. Where there are fewer of them than asked for, or MMFF94s lacks parameters, structures by distance geometry fill the
rest, so that what the force field takes for one conformer and the calculator for two is found as well.

Of a budget of time, both take a share; what was found by then is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase.data import atomic_masses

from mlff_calc.clock import Clock
from mlff_calc.datasets.embed import embed
from mlff_calc.datasets.molecules import Molecule, quiet
from mlff_calc.sampling.duplicates import KCAL, distinct
from mlff_calc.sampling.identity import Identity, with_positions
from mlff_calc.sampling.systems import FloatArray

SCREENED = "mmff"
"""Name of what MMFF94s has relaxed, as a source."""
SHARE = 0.5
"""Share of a budget of time after which no more structures are relaxed by MMFF94s. Raising it leaves less of it for
what follows."""


class Screened(NamedTuple):
    """Structures that MMFF94s has relaxed.

    Attributes:
        positions: [n, n_atoms, 3] Angstrom.
        energies: [n] eV.
        is_whole: Whether all were relaxed; False where a budget of time ended it.
    """

    positions: FloatArray
    energies: FloatArray
    is_whole: bool = True


@dataclass(frozen=True)
class Starts:
    """Starting structures.

    Attributes:
        positions: [n, n_atoms, 3] Angstrom.
        sources: What made each [n]: `SCREENED`, or a rung of distance geometry.
        is_whole: Whether the search for them went to its end; False where a budget of time ended it.
    """

    positions: FloatArray
    sources: list[str]
    is_whole: bool = True


def starting_structures(
    molecule: Molecule,
    n: int,
    seed: int,
    screen: int = 5,
    on_progress: Callable[[str, int, int], None] | None = None,
    clock: Clock | None = None,
) -> Starts:
    """Up to `n` starts, at least one.

    Args:
        molecule: Its conformers are not used.
        n: Number of starts.
        seed: Seed of distance geometry.
        screen: Number of structures by distance geometry for each start, from which MMFF94s chooses; 1 for no choice.
        on_progress: Called with the name of the task, the number of finished structures and of all.
        clock: Budget of time.

    Raises:
        MoleculeError: See `embed`.
        OptionError: See `embed`.
    """
    made = embed(molecule, n * screen, seed, clock)
    chosen, is_whole = np.zeros((0, *made.positions.shape[1:])), made.is_whole
    if screen > 1:
        places, energies, all_screened = by_mmff(molecule, made.positions, on_progress, clock)
        is_whole = is_whole and all_screened
        if len(places):
            mirror = Identity(molecule).image(places[0]) is not None
            masses = atomic_masses[molecule.numbers]
            chosen = places[distinct(molecule, places, energies, masses, mirror=mirror)[:n]]
    rest = made.positions[: n - len(chosen)]
    sources = [SCREENED] * len(chosen) + [made.rung] * len(rest)
    return Starts(np.concatenate([chosen, rest]), sources, is_whole)


def by_mmff(
    molecule: Molecule,
    places: FloatArray,
    on_progress: Callable[[str, int, int], None] | None = None,
    clock: Clock | None = None,
) -> Screened:
    """Structures [n, n_atoms, 3] after relaxation by MMFF94s, one at least; none where it lacks parameters.

    Structures that are no longer the molecule are left out.
    """
    from rdkit.Chem import rdForceFieldHelpers

    if len(molecule.numbers) < 2 or not rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule.mol):
        return Screened(np.zeros((0, *places.shape[1:])), np.zeros(0))
    identity, clock, is_whole = Identity(molecule), clock or Clock(), True
    found, energies = [], []
    with quiet():
        for number, place in enumerate(places):
            if number and clock.late(SHARE):
                is_whole = False
                break
            if on_progress is not None:
                on_progress("choosing starts by MMFF94s", number + 1, len(places))
            mol = with_positions(molecule, place)
            ((_, energy),) = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, maxIters=2000, mmffVariant="MMFF94s")
            relaxed = mol.GetConformer().GetPositions()
            if np.isfinite(energy) and identity.change(relaxed) is None:
                found.append(relaxed)
                energies.append(energy * KCAL)
    return Screened(np.array(found).reshape(-1, *places.shape[1:]), np.array(energies), is_whole)
