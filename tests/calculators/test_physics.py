"""Forces and stress are derivatives of the energy, which does not depend on origin, wrapping or supercell."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.graph.frame import Frame
from mlff_calc.potential import build_potential

from .conftest import PairPotential, numeric_forces, numeric_stress, rattled_ethanol, rattled_silicon, rattled_slab


def network():
    options = {"name": "equiformer", "channels": 8, "n_layers": 1, "cutoff": 4.0}
    return build_potential({"backbone": options, "elements": ["H", "C", "O", "Si", "Cu"]}, seed=3)


@pytest.fixture(scope="module", params=["pair", "network"])
def calculator(request):
    return MLFFCalculator(PairPotential() if request.param == "pair" else network(), precision="float64", device="cpu")


def small_silicon():
    atoms = bulk("Si", "diamond", a=5.43)  # two atoms in a cell smaller than the cutoff, with images as neighbours
    atoms.rattle(0.2, seed=5)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * np.arange(9).reshape(3, 3) / 9), scale_atoms=True)
    return atoms


def wire():
    atoms = Atoms(
        "CuSiCu", [[0, 0, 0], [2.1, 0.3, 0.2], [1.0, 2.0, 0.5]], cell=[4.4, 9.0, 9.0], pbc=[True, False, False]
    )
    atoms.rattle(0.05, seed=6)
    return atoms


@pytest.mark.parametrize("make", [rattled_ethanol, small_silicon, wire])
def test_forces_are_the_slope_of_the_energy(calculator, make):
    atoms = make()
    atoms.calc = calculator
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 1e-3
    assert np.abs(forces - numeric_forces(atoms)).max() < 1e-6 * np.abs(forces).max()


@pytest.mark.parametrize("make", [small_silicon, wire, rattled_slab])
def test_stress_is_the_slope_of_the_energy_under_strain(calculator, make):
    atoms = make()
    atoms.calc = calculator
    stress = atoms.get_stress()
    assert np.abs(stress).max() > 1e-6
    assert np.abs(stress - numeric_stress(atoms)).max() < 1e-6 * np.abs(stress).max()


def test_stress_is_positive_in_tension():
    calculator = MLFFCalculator(PairPotential(), precision="float64", device="cpu")
    atoms = bulk("Cu", "fcc", a=6.0)
    atoms.calc = calculator
    assert (atoms.get_stress()[:3] > 0.0).all()
    atoms.set_cell(0.5 * atoms.cell, scale_atoms=True)
    assert (atoms.get_stress()[:3] < 0.0).all()


def test_stresses_add_up_to_the_stress(calculator):
    for atoms in (small_silicon(), rattled_slab()):
        atoms.calc = calculator
        assert np.allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), rtol=1e-12, atol=1e-15)


def test_stress_agrees_with_the_potentials_own(calculator):
    atoms = rattled_silicon(1)
    results = calculator.evaluate(atoms)
    graph, _ = calculator._lists.graph(atoms, Frame.of_atoms(atoms))
    tensor = calculator._models[0](graph)["stress"][0].detach().numpy()
    voigt = tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    assert np.allclose(results["stress"], voigt, rtol=1e-9, atol=1e-12)


def test_surface_stress_does_not_depend_on_the_vacuum(calculator):
    atoms = rattled_slab()
    atoms.calc = calculator
    height, surface = atoms.cell[2, 2], atoms.get_stress()[:2] * atoms.cell[2, 2]
    atoms.cell[2, 2] = 2.5 * height
    assert np.allclose(atoms.get_stress()[:2] * atoms.cell[2, 2], surface, rtol=1e-10)


def test_supercell_is_extensive(calculator):
    atoms = small_silicon()
    large = make_supercell(atoms, [[2, 0, 0], [0, 1, 0], [1, 0, 3]])
    one, six = calculator.evaluate(atoms), calculator.evaluate(large)
    assert six["energy"] == pytest.approx(6 * one["energy"], rel=1e-10)
    assert np.allclose(six["stress"], one["stress"], rtol=1e-8, atol=1e-12)
    assert np.abs(six["forces"]).max() == pytest.approx(np.abs(one["forces"]).max(), rel=1e-8)


@pytest.mark.parametrize("make", [small_silicon, rattled_slab, wire])
def test_wrapping_and_translation_change_nothing(calculator, make):
    atoms = make()
    expected = calculator.evaluate(atoms)
    shifts = np.random.default_rng(0).integers(-3, 4, size=(len(atoms), 3)) * atoms.pbc
    unwrapped, translated = atoms.copy(), atoms.copy()
    unwrapped.positions += shifts @ atoms.cell
    translated.positions += (11.3, -7.7, 123.0)
    for other in (unwrapped, translated):
        results = calculator.evaluate(other)
        assert results["energy"] == pytest.approx(expected["energy"], rel=1e-10)
        assert np.allclose(results["forces"], expected["forces"], rtol=0, atol=1e-9 * np.abs(expected["forces"]).max())
        assert np.allclose(results["stress"], expected["stress"], rtol=0, atol=1e-9 * np.abs(expected["stress"]).max())


def test_dummy_cell_of_a_molecule_has_no_influence(calculator):
    atoms = rattled_ethanol()
    expected = calculator.evaluate(atoms)["forces"]
    for cell in ([1.0, 1.0, 1.0], [[0.1, 0, 0], [0, 50, 3], [0, 0, 0]]):
        boxed = atoms.copy()
        boxed.cell[:] = np.diag(cell) if np.ndim(cell) == 1 else cell
        assert np.allclose(calculator.evaluate(boxed)["forces"], expected, rtol=0, atol=1e-11)


def test_arrays_that_are_not_contiguous(calculator):
    atoms = small_silicon()
    expected = calculator.evaluate(atoms)
    strided = atoms.copy()
    strided.arrays["positions"] = np.asfortranarray(np.repeat(atoms.positions, 2, axis=0))[::2]
    strided.cell.array[:] = np.asfortranarray(atoms.cell.array)
    strided.arrays["numbers"] = np.repeat(atoms.numbers, 2)[::2].astype(np.int32)
    assert not strided.arrays["positions"].flags.c_contiguous
    results = MLFFCalculator(calculator.potential, precision="float64", device="cpu").evaluate(strided)
    assert np.allclose(results["forces"], expected["forces"], rtol=0, atol=1e-12)
    assert np.allclose(results["stress"], expected["stress"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("periodic", [False, True])
def test_one_atom(calculator, periodic):
    atoms = Atoms("Si", [[0.3, 0.1, 9.0]], cell=[3.0, 3.1, 3.2] if periodic else None, pbc=periodic)
    atoms.calc = calculator
    assert np.isfinite(atoms.get_potential_energy())
    assert np.allclose(atoms.get_forces(), 0.0, atol=1e-12)
    if periodic:
        assert np.abs(atoms.get_stress() - numeric_stress(atoms)).max() < 1e-6 * np.abs(atoms.get_stress()).max()


def test_no_atoms(calculator):
    atoms = Atoms(cell=[3, 3, 3], pbc=True)
    atoms.calc = calculator
    assert atoms.get_potential_energy() == 0.0
    assert atoms.get_forces().shape == (0, 3)
    assert atoms.get_stress().tolist() == [0.0] * 6


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-4), ("mixed", 2e-4)])
def test_precisions_agree(precision, tolerance):
    potential, atoms = network(), rattled_silicon(1)
    exact = MLFFCalculator(potential, precision="float64", device="cpu").evaluate(atoms)
    close = MLFFCalculator(potential, precision=precision, device="cpu").evaluate(atoms)
    assert close["energy"] == pytest.approx(exact["energy"], rel=tolerance, abs=tolerance)
    scale = np.abs(exact["forces"]).max()
    difference = np.abs(close["forces"] - exact["forces"]).max()
    assert 0.0 < difference < tolerance * scale
