"""Shipped potentials have the errors and properties given in their cards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.eos import EquationOfState
from ase.io import read
from ase.md.langevin import Langevin
from ase.units import GPa

from mlff_calc import MLFFCalculator, list_potentials, load_potential
from mlff_calc.datasets import read_structures
from mlff_calc.dynamics.velocities import set_maxwell_velocities
from mlff_calc.training.potential.evaluate import evaluate

# Volume from the data: a cubic fit to the pressure (mean of the diagonal of the stress) of the uniaxially strained cells of
# the training set is zero at 20.451 Angstrom^3/atom; the bulk modulus is from its slope there.
LATTICE_CONSTANT, BULK_MODULUS = 5.4694, 88.96


def test_both_ship() -> None:
    assert {"ethanol", "silicon"} <= {entry.name for entry in list_potentials()}


def test_ethanol_on_its_test_frames(data_dir: Path) -> None:
    samples = read_structures(data_dir / "rmd17" / "ethanol.npz", part="test")
    assert len(samples) == 500
    found = evaluate(load_potential("ethanol"), samples).errors
    assert found["forces"].mae <= 7.0  # meV/Angstrom
    assert found["energy"].mae <= 2.0  # meV


def test_silicon_on_its_test_frames(data_dir: Path) -> None:
    samples = read_structures(data_dir / "condensed" / "mlearn_Si_test.extxyz.gz")
    found = evaluate(load_potential("silicon"), samples).errors
    assert found["forces"].mae <= 90.0
    assert found["energy_per_atom"].mae <= 6.0


def test_stress_of_silicon_against_the_data(data_dir: Path) -> None:
    """The file contains the stress of VASP in kbar, positive in compression, in the order xx yy zz xy yz zx."""
    frames = read(data_dir / "condensed" / "mlearn_Si_test.extxyz.gz", ":")
    calculator = MLFFCalculator("silicon", device="cpu")
    found, expected = [], []
    for atoms in frames:
        if atoms.info["group"] == "Elastic":
            atoms.calc = calculator
            found.append(atoms.get_stress() / GPa)
            expected.append(-0.1 * np.array(atoms.info["virial_kbar"])[[0, 1, 2, 4, 5, 3]])
    assert len(found) >= 3
    found, expected = np.array(found), np.array(expected)
    assert np.abs(expected).max() > 3.0
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).max()


def test_silicon_crystal() -> None:
    calculator = MLFFCalculator("silicon", device="cpu", precision="float64")
    volumes, energies = [], []
    for constant in np.linspace(5.35, 5.59, 9):
        atoms = bulk("Si", a=constant)
        atoms.calc = calculator
        volumes.append(atoms.get_volume() / 2)
        energies.append(atoms.get_potential_energy() / 2)
    volume, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    assert (8 * volume) ** (1 / 3) == pytest.approx(LATTICE_CONSTANT, rel=0.01)
    assert modulus / GPa == pytest.approx(BULK_MODULUS, rel=0.10)


@pytest.mark.parametrize("steps", [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_ethanol_stays_together_hot(steps: int) -> None:
    """In up to 1 ps at 500 K, the temperature of the training data, no bond breaks."""
    entry = next(entry for entry in list_potentials() if entry.name == "ethanol")
    atoms = read(entry.path / "example.extxyz")
    atoms.calc = MLFFCalculator("ethanol", device="cpu")
    generator = np.random.default_rng(0)
    set_maxwell_velocities(atoms, 500.0, seed=0, conserves_momentum=False)
    start = atoms.get_all_distances()
    dynamics = Langevin(atoms, 1.0 * units.fs, temperature_K=500, friction=0.02 / units.fs, fixcm=False, rng=generator)
    dynamics.run(steps)
    bonded = (start < 1.7) & (start > 0)
    assert bonded.sum() == 2 * 8
    assert np.abs(atoms.get_all_distances() - start)[bonded].max() < 0.4
