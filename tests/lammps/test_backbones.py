"""`hegnn` and `cg_egnn` in LAMMPS agree with `MLFFCalculator` on one and four ranks, for both kinds of file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.export import export_potential, read_metadata
from mlff_calc.potential import Potential, build_potential

from .conftest import Engine, setup, symbols_of, write_data

pytestmark = [pytest.mark.lammps]

PER_BAR = 1 / 1.6021765e6  # conversion factor of LAMMPS
OPTIONS = {
    "hegnn": {"l_max": 2, "channels": 8, "n_layers": 2, "steerable_channels": 2},
    "egnn": {"name": "hegnn", "l_max": 0, "channels": 8, "n_layers": 2},
    "fields": {"name": "hegnn", "l_max": 1, "channels": 8, "n_layers": 1, "steerable_channels": 2},
    "cg_egnn": {"channels": 6, "n_layers": 2, "hops": 2, "edge_channels": 8},
}


def potential_of(name: str) -> Potential:
    """Make a small potential in float64 with random weights."""
    config = {
        "backbone": {"name": name, "cutoff": 4.5} | OPTIONS[name],
        "elements": [1, 6, 8, 14],
        "repulsion": {"name": "zbl"},
        "fields": {"products": 2} if name == "fields" else None,
    }
    return build_potential(config, seed=3).to_precision("float64").eval()


@pytest.fixture(scope="module", params=OPTIONS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Potential, Path]:
    """Potential and its TorchScript file."""
    potential = potential_of(request.param)
    path = tmp_path_factory.mktemp(request.param) / "potential.pt"
    export_potential(potential, path, to="lammps")
    return potential, path


def liquid() -> Atoms:
    """Return periodic ethanol in a random orientation, away from its minimum."""
    generator = np.random.default_rng(8)
    atoms = Atoms()
    for place in np.ndindex(2, 2, 3):
        one = molecule("CH3CH2OH")
        one.rotate(float(generator.uniform(0, 360)), generator.normal(size=3))
        one.positions += 5.5 * (np.array(place) + 0.5) - one.get_center_of_mass()
        atoms += one
    atoms.set_cell([11.0, 11.0, 16.5])
    atoms.pbc = True
    atoms.positions += generator.normal(scale=0.03, size=(len(atoms), 3))
    return atoms


def sheared() -> Atoms:
    """Return silicon in a tilted box."""
    atoms = bulk("Si", cubic=True) * (3, 3, 2)
    cell = atoms.cell.array.copy()
    cell[1, 0], cell[2, 0] = 0.15 * cell[0, 0], -0.1 * cell[0, 0]
    atoms.set_cell(cell, scale_atoms=True)
    atoms.positions += np.random.default_rng(8).normal(scale=0.05, size=(len(atoms), 3))
    return atoms


@pytest.mark.parametrize("build", [liquid, sheared])
def test_one_frame_on_ranks(engine: Engine, exported: tuple[Potential, Path], build: object) -> None:
    potential, path = exported
    atoms: Atoms = build()  # type: ignore[operator]
    numbers = sorted({int(z) for z in atoms.numbers})
    write_data(atoms, engine.folder / "atoms.data", numbers)
    atoms.calc = MLFFCalculator(potential, precision="float64", device="cpu")
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    pressure = -atoms.get_stress(voigt=False)[(0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)]
    assert np.abs(forces).max() > 1e-2
    for style, n_ranks in (("pair_style mlff", 1), ("pair_style mlff", 4), ("pair_style mlff ghosts", 2)):
        found = engine.run(f"{setup(style, str(path), symbols_of(numbers))}#RUN\nrun 0\n", n_ranks)
        assert abs(found.energy - energy) < 1e-9
        assert np.abs(found.forces - forces).max() < 1e-10
        assert np.abs(found.pressures * PER_BAR - pressure).max() < 1e-6 * np.abs(pressure).max()


@pytest.mark.slow
def test_a_trajectory_on_ranks(engine: Engine, exported: tuple[Potential, Path]) -> None:
    """Atoms migrate between ranks; energies of all steps are equal on any number of ranks, and are conserved."""
    atoms = liquid()
    numbers = sorted({int(z) for z in atoms.numbers})
    write_data(atoms, engine.folder / "atoms.data", numbers, temperature_K=600.0)
    run = "neighbor 0.3 bin\nfix 1 all nve\ntimestep 0.0001\nthermo 1\n#RUN\nrun 20\n"
    text = setup("pair_style mlff", str(exported[1]), symbols_of(numbers)) + run
    one, four = engine.run(text), engine.run(text, 4)
    assert np.abs(one.forces - four.forces).max() < 1e-8
    np.testing.assert_allclose(four.thermo["PotEng"], one.thermo["PotEng"], rtol=0, atol=1e-8)
    exchanged = np.ptp(one.thermo["PotEng"])
    assert exchanged > 0.01
    assert np.ptp(one.thermo["TotEng"]) < 0.05 * exchanged


def test_the_record_contains_the_exchanged_width(exported: tuple[Potential, Path]) -> None:
    potential, path = exported
    facts = read_metadata(path)
    assert facts.n_layers == potential.depth
    assert facts.exchange_width == potential.exchange_width


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hegnn", "cg_egnn"])
def test_files_of_aotinductor(engine: Engine, name: str, tmp_path: Path) -> None:
    potential = potential_of(name)
    files = [tmp_path / f"potential{suffix}" for suffix in (".pt", ".pt2")]
    for file in files:
        export_potential(potential, file, to="lammps")
    atoms = sheared()
    write_data(atoms, engine.folder / "atoms.data", [14])
    expected = engine.run(setup("pair_style mlff", str(files[0]), ["Si"]) + "#RUN\nrun 0\n")
    for n_ranks in (1, 2):
        found = engine.run(setup("pair_style mlff", str(files[1]), ["Si"]) + "#RUN\nrun 0\n", n_ranks)
        assert np.abs(found.forces - expected.forces).max() < 1e-9
        assert abs(found.energy - expected.energy) < 1e-9


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_the_self_test_passes(exported: tuple[Potential, Path]) -> None:
    command = [sys.executable, "-m", "mlff_calc.cli.main", "lammps", "check", str(exported[1]), "--ranks", "1,2,4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("agrees") + done.stdout.count("ok") > 0, done.stdout
