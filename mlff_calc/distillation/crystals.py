"""Crystals with a vacancy, and slabs of them."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import surface

from mlff_calc.errors import StructureError

WIDTH = 8.0
"""Smallest height of supercells and thickness of slabs, Angstrom. Raising it keeps images of a vacancy farther apart."""
VACUUM = 6.0
"""Vacuum on each side of a slab, Angstrom. Raising it above half the cutoff of a student changes nothing for the student."""
MOST = 500
"""Largest number of atoms. Raising it allows larger cells, which take longer to label."""


def vacancies(crystal: Atoms, n: int, seed: int) -> list[Atoms]:
    """Supercells that lack one atom each.

    Args:
        crystal: Cell of a crystal.
        n: Number of supercells, whose vacancies are at different sites of the cell.
        seed: Seed of the order of the sites.

    Raises:
        StructureError: A supercell would have more than `MOST` atoms or none left, or the cell has fewer sites.
    """
    if not n:
        return []
    cell = _repeated(crystal, np.ones(3, dtype=bool), "a vacancy")
    if n > len(crystal) or len(cell) < 2:
        raise StructureError(
            f"{n} vacancies are asked for in cells of {crystal.get_chemical_formula()}, which has {len(crystal)} sites"
            f"{', and nothing would be left' if len(cell) < 2 else ''}; give fewer"
        )
    sites = np.random.default_rng(seed).permutation(len(crystal))
    found = []
    for k in range(n):
        one = cell.copy()
        del one[int(sites[k])]
        found.append(one)
    return found


def slab_of(crystal: Atoms, indices: tuple[int, int, int]) -> Atoms:
    """A slab with vacuum on both sides, in a cell that is periodic in all directions.

    Args:
        crystal: Cell of a crystal.
        indices: Miller indices in this cell.

    Raises:
        StructureError: A slab would have more than `MOST` atoms.
    """
    layers = int(np.ceil(WIDTH / _heights(surface(crystal, indices, 1, periodic=True))[2]))
    slab = surface(crystal, indices, layers, vacuum=VACUUM, periodic=True)
    return _repeated(slab, np.array([True, True, False]), f"a slab {indices}")


def _repeated(atoms: Atoms, along: np.ndarray, what: str) -> Atoms:
    """A structure repeated along some axes until its heights are at least `WIDTH`."""
    times = np.where(along, np.ceil(WIDTH / _heights(atoms) - 1e-9), 1).astype(int)
    n = len(atoms) * int(times.prod())
    if n > MOST:
        formula = atoms.get_chemical_formula()
        raise StructureError(f"{what} in cells of {formula} would have {n} atoms, more than {MOST}; give a smaller cell")
    return atoms.repeat(times.tolist())


def _heights(atoms: Atoms) -> np.ndarray:
    """Distances of opposite faces of the cell [3], Angstrom."""
    return 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
