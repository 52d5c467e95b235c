"""Shipped potentials, exported in float64: LAMMPS on one, two and four ranks agrees with `MLFFCalculator`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.calculators.reuse import Reuse
from mlff_calc.calculators.stepping import stepping_of
from mlff_calc.export import export_potential
from mlff_calc.potential import load_potential

from .conftest import Engine, setup, write_data

pytestmark = [pytest.mark.lammps, pytest.mark.slow]

PER_BAR = 1 / 1.6021765e6  # conversion factor of LAMMPS
NAMES = ("ethanol", "silicon", "ethanol_deq", "silicon_deq")
TIGHT = 1e-11  # relative residual of both fixed points, small enough for two programs to agree to ten digits


@pytest.fixture(scope="module", params=NAMES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp(request.param) / "potential.pt"
    potential = load_potential(request.param)
    stepping = stepping_of("auto", potential)
    export_potential(potential, path, to="lammps", precision="float64", stepping=stepping)
    return request.param, path


def structure(name: str) -> tuple[Atoms, list[int]]:
    """Return a periodic structure away from its minimum, and the atomic numbers of LAMMPS's types."""
    generator = np.random.default_rng(8)
    if name.startswith("silicon"):
        atoms, numbers = bulk("Si", cubic=True) * (3, 3, 3), [14]
    else:
        one = molecule("CH3CH2OH")
        one.center(vacuum=0)
        one.set_cell([5.5] * 3)
        one.pbc = True
        atoms, numbers = one * (2, 2, 3), [8, 6, 1]
    atoms.positions += generator.normal(scale=0.03, size=(len(atoms), 3))
    return atoms, numbers


def reference(name: str, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    """Return energy, forces, and pressure in LAMMPS's order, with tightly solved fixed points."""
    options = {}
    if name.endswith("deq"):
        options["reuse"] = Reuse(tolerance=TIGHT)
        potential = load_potential(name)
        potential.backbone.tolerance = TIGHT
        atoms.calc = MLFFCalculator(potential, precision="float64", device="cpu", **options)
    else:
        atoms.calc = MLFFCalculator(name, precision="float64", device="cpu")
    stress = atoms.get_stress(voigt=False)[(0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)]
    return atoms.get_potential_energy(), atoms.get_forces(), -stress


def test_one_frame(engine: Engine, exported: tuple[str, Path]) -> None:
    name, path = exported
    atoms, numbers = structure(name)
    write_data(atoms, engine.folder / "atoms.data", numbers)
    energy, forces, pressure = reference(name, atoms)
    options = f" tolerance {TIGHT}" if name.endswith("deq") else ""
    symbols = list(dict.fromkeys(atoms.symbols[list(atoms.numbers).index(z)] for z in numbers))
    for n_ranks in (1, 2, 4):
        found = engine.run(f"{setup('pair_style mlff' + options, str(path), symbols)}#RUN\nrun 0\n", n_ranks)
        assert abs(found.energy - energy) < 1e-9
        assert np.abs(found.forces - forces).max() < 1e-10
        assert np.abs(found.pressures * PER_BAR - pressure).max() < 1e-6 * np.abs(pressure).max()
