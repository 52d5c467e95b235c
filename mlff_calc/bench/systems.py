"""Structures for timings, built by code so that a benchmark needs no data."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import as_file, files

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read

from mlff_calc.errors import OptionError
from mlff_calc.near import suggestion

SILICON_LATTICE_CONSTANT = 5.43  # Angstrom; a larger value gives fewer neighbours
RATTLE = 0.03  # standard deviation of displacements per component, Angstrom; a larger value gives larger forces
WATER_BOX = 12.44  # edge of the water box, Angstrom, in which 64 molecules have 1.0 g/cm^3; larger: a lower density


def _ethanol() -> Atoms:
    return molecule("CH3CH2OH")


def _aspirin() -> Atoms:
    with as_file(files("mlff_calc.bench") / "structures" / "aspirin.xyz") as path:
        return read(path)


def silicon(n_atoms: int) -> Atoms:
    """Build a cubic diamond supercell of `n_atoms` silicon atoms, rattled by 0.03 Angstrom.

    Args:
        n_atoms: Number of atoms, 8 n^3 for a whole number n.

    Returns:
        The structure, periodic in all directions.

    Raises:
        OptionError: No cubic supercell has that many atoms.
    """
    repeats = round((n_atoms / 8) ** (1 / 3))
    if repeats < 1 or 8 * repeats**3 != n_atoms:
        near = [8 * n**3 for n in range(max(repeats - 1, 1), max(repeats, 1) + 2)]
        msg = f"no cubic diamond supercell has {n_atoms} atoms; the nearest have {', '.join(map(str, near))}"
        raise OptionError(msg)
    atoms = bulk("Si", "diamond", a=SILICON_LATTICE_CONSTANT, cubic=True).repeat(repeats)
    atoms.positions += np.random.default_rng(0).normal(0.0, RATTLE, atoms.positions.shape)
    return atoms


def _water192() -> Atoms:
    """Build 64 molecules with random orientations on a cubic grid, at the density of the liquid."""
    rng = np.random.default_rng(0)
    water = Atoms()
    grid = (np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) + 0.5) * WATER_BOX / 4
    for centre in grid:
        one = molecule("H2O")
        one.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
        one.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
        one.positions += centre - one.get_center_of_mass()
        water += one
    water.set_cell([WATER_BOX] * 3)
    water.set_pbc(True)
    return water


SYSTEMS: dict[str, Callable[[], Atoms]] = {
    "ethanol": _ethanol,
    "aspirin": _aspirin,
    "si64": lambda: silicon(64),
    "si512": lambda: silicon(512),
    "si8000": lambda: silicon(8000),
    "water192": _water192,
}
DEFAULT_SYSTEMS = ("ethanol", "aspirin", "si64", "si512", "water192")


def build_system(name: str) -> Atoms:
    """Build a structure by name. A name always gives the same atoms.

    Args:
        name: Key of `SYSTEMS`, or `siN` for a cubic supercell of N silicon atoms (N = 8, 64, 216, 512, 1000 ...).

    Returns:
        The structure, in Angstrom.

    Raises:
        OptionError: There is no system of that name.
    """
    if name in SYSTEMS:
        return SYSTEMS[name]()
    if name.startswith("si") and name[2:].isdigit():
        return silicon(int(name[2:]))
    hint = suggestion(name, SYSTEMS, after=" ")
    msg = f"unknown system {name!r} to time: {hint}Known systems: {', '.join(SYSTEMS)}, and siN for 8 n^3 silicon atoms"
    raise OptionError(msg)


def parse_systems(text: str) -> list[str]:
    """Return the names of a comma-separated list.

    Raises:
        OptionError: The list is empty, or a name is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        msg = f"no system named in {text!r}; give some of {', '.join(SYSTEMS)}"
        raise OptionError(msg)
    for name in names:
        build_system(name)
    return names
