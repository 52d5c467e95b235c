"""The calculator follows ASE's rules: results, caching, unchanged inputs, and errors."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.filters import FrechetCellFilter
from ase.io import Trajectory
from ase.optimize import BFGS

from mlff_calc.calculators import IgnoredInputWarning, MLFFCalculator
from mlff_calc.errors import OptionError, SimulationError, StructureError, UnknownElementError

from .conftest import PairPotential, rattled_ethanol, rattled_silicon, rattled_slab

ALL = ("energy", "free_energy", "energies", "forces", "stress", "stresses")


@pytest.fixture
def calculator(pair_potential, device):
    return MLFFCalculator(pair_potential, precision="float64", device=device)


def test_results_are_plain_float64_arrays(calculator):
    atoms = rattled_silicon()
    calculator.calculate(atoms)
    assert set(calculator.results) == set(ALL) == set(calculator.implemented_properties)
    shapes = {"energies": (64,), "forces": (64, 3), "stress": (6,), "stresses": (64, 6)}
    for name, shape in shapes.items():
        value = calculator.results[name]
        assert type(value) is np.ndarray
        assert value.dtype == np.float64
        assert value.shape == shape
    assert type(calculator.results["energy"]) is float
    assert calculator.results["energy"] == calculator.results["free_energy"]
    assert calculator.results["energies"].sum() == pytest.approx(calculator.results["energy"], rel=1e-12)
    assert calculator.stats.n_calls == 1


def test_one_evaluation_serves_all_properties(calculator):
    atoms = rattled_silicon()
    atoms.calc = calculator
    atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    atoms.get_stresses()
    atoms.get_potential_energies()
    atoms.get_potential_energy(force_consistent=True)
    assert calculator.stats.n_calls == 1


@pytest.mark.parametrize("change", ["positions", "cell", "numbers", "pbc"])
def test_any_change_of_the_structure_is_seen(calculator, change):
    atoms = rattled_silicon()
    atoms.calc = calculator
    before = atoms.get_potential_energy()
    if change == "positions":
        atoms.positions[3, 1] += 1e-9
    elif change == "cell":
        atoms.cell[0, 0] += 0.1
    elif change == "numbers":
        atoms.numbers[5] = 6
    else:
        atoms.pbc[2] = False
    assert calculator.calculation_required(atoms, ["energy"])
    after = atoms.get_potential_energy()
    assert calculator.stats.n_calls == 2
    assert after != before
    fresh = atoms.copy()
    fresh.calc = MLFFCalculator(PairPotential(), precision="float64", device=calculator.device)
    assert after == pytest.approx(fresh.get_potential_energy(), rel=1e-13)


def test_nothing_changed_costs_nothing(calculator):
    atoms = rattled_silicon()
    atoms.calc = calculator
    atoms.get_forces()
    assert not calculator.calculation_required(atoms, list(ALL))
    assert calculator.check_state(atoms.copy()) == []
    atoms.positions += 0.0
    atoms.get_forces()
    assert calculator.stats.n_calls == 1


def test_returned_arrays_are_copies(calculator):
    atoms = rattled_ethanol()
    atoms.calc = calculator
    forces = atoms.get_forces()
    forces[:] = 7.0
    assert np.abs(atoms.get_forces()).max() != 7.0


def test_atoms_are_not_changed(calculator):
    atoms = rattled_slab()
    atoms.positions[0] -= 3.0 * atoms.cell[0]  # outside the cell
    atoms.info = {"note": "mine"}
    before = copy.deepcopy(atoms)
    atoms.calc = calculator
    atoms.get_forces()
    atoms.get_stress()
    assert atoms.info == before.info
    assert set(atoms.arrays) == set(before.arrays)
    for name, array in before.arrays.items():
        assert np.array_equal(atoms.arrays[name], array)
    assert np.array_equal(atoms.cell, before.cell)
    assert np.array_equal(atoms.pbc, before.pbc)


def test_two_calls_agree_bit_for_bit(pair_potential, device):
    atoms = rattled_silicon()
    deterministic = device.type == "cuda"
    first, second = (
        MLFFCalculator(pair_potential, device=device, deterministic=deterministic).evaluate(atoms) for _ in range(2)
    )
    for name in ALL:
        assert np.array_equal(first[name], second[name])


def test_deterministic_leaves_the_global_switch_alone(pair_potential):
    before = torch.are_deterministic_algorithms_enabled()
    plain = MLFFCalculator(pair_potential, device="cpu").evaluate(rattled_ethanol())
    fixed = MLFFCalculator(pair_potential, device="cpu", deterministic=True).evaluate(rattled_ethanol())
    assert torch.are_deterministic_algorithms_enabled() == before
    assert np.array_equal(plain["forces"], fixed["forces"])
    with pytest.raises(OptionError, match="deterministic=True cannot be promised with compile=True"):
        MLFFCalculator(pair_potential, device="cpu", deterministic=True, compile=True)


def test_works_where_gradients_are_switched_off(calculator):
    atoms = rattled_ethanol()
    expected = calculator.evaluate(atoms)["forces"]
    for mode in (torch.no_grad, torch.inference_mode):
        calculator.reset()
        with mode():
            assert np.array_equal(calculator.evaluate(atoms)["forces"], expected)


def test_stress_of_a_molecule_is_refused_with_the_cure(calculator):
    atoms = rattled_ethanol()
    atoms.calc = calculator
    atoms.get_forces()
    for boxed in (False, True):
        if boxed:
            atoms.center(vacuum=5.0)
        for ask in (atoms.get_stress, atoms.get_stresses):
            with pytest.raises(PropertyNotImplementedError, match=r"without periodic boundaries.*set atoms\.pbc"):
                ask()
    with pytest.raises(PropertyNotImplementedError, match="no volume"):
        calculator.calculate(atoms, ["stress"])
    assert calculator.get_property("stress", atoms, allow_calculation=False) is None
    assert np.isfinite(atoms.get_potential_energy())
    assert atoms.get_forces().shape == (9, 3)


def test_slab_without_height_is_refused_with_the_cure(calculator):
    atoms = rattled_slab()
    atoms.cell[2] = 0.0
    atoms.calc = calculator
    assert atoms.get_forces().shape == (27, 3)
    with pytest.raises(PropertyNotImplementedError, match=r"cell vector c is zero.*atoms\.center"):
        atoms.get_stress()


def test_unknown_property_is_ases_error(calculator):
    atoms = rattled_ethanol()
    atoms.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match="dipole"):
        atoms.get_dipole_moment()


def test_unknown_element_is_refused_when_set_and_when_calculated(calculator):
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    message = r"unknown element Na \(Z=11\) at atom 0 \(2 of 2 atoms.*this potential knows H C O Si Cu"
    with pytest.raises(UnknownElementError, match=message):
        atoms.calc = calculator
    with pytest.raises(UnknownElementError, match=message):
        calculator.calculate(atoms)
    mixed = rattled_ethanol()
    mixed.numbers[4] = 54
    with pytest.raises(UnknownElementError, match=r"Xe \(Z=54\) at atom 4 \(1 of 9"):
        calculator.calculate(mixed)
    mixed.numbers[4] = 200
    with pytest.raises(UnknownElementError, match="Z=200 at atom 4"):
        calculator.calculate(mixed)
    assert calculator.stats.n_calls == 0


def test_a_failed_calculation_leaves_no_results(calculator):
    atoms = rattled_ethanol()
    atoms.calc = calculator
    atoms.get_forces()
    atoms.positions[1] = np.nan
    with pytest.raises(StructureError, match="atom 1 is not finite"):
        atoms.get_forces()
    assert calculator.results == {}
    with pytest.raises(StructureError):
        atoms.get_potential_energy()
    atoms.positions[1] = (0.0, 0.0, 9.0)
    assert np.isfinite(atoms.get_forces()).all()


def test_bad_structures_are_refused(calculator):
    overlapping = rattled_ethanol()
    overlapping.positions[5] = overlapping.positions[2] + 0.01
    with pytest.raises(StructureError, match="atoms 2 and 5 overlap"):
        calculator.calculate(overlapping)
    with pytest.raises(StructureError, match="vector is zero"):
        calculator.calculate(Atoms("H", [[0, 0, 0]], pbc=True))
    with pytest.raises(StructureError, match="no structure was given"):
        MLFFCalculator(PairPotential()).get_potential_energy()


def test_values_that_are_not_finite_stop_the_run(calculator):
    class Broken(PairPotential):
        def to_precision(self, precision):
            return self

        def forward(self, graph):
            out = super().forward(graph)
            out["forces"] = out["forces"].clone()
            out["forces"][4] = torch.nan
            return out

    with pytest.raises(SimulationError, match=r"1 forces that are not finite, first at atom 4 \(H\)"):
        MLFFCalculator(Broken(), device="cpu").evaluate(rattled_ethanol())


@pytest.mark.parametrize(
    ("key", "value"), [("initial_charges", 1.0), ("initial_magmoms", 0.5), ("charge", 1), ("spin", 3)]
)
def test_ignored_inputs_are_warned_of_once(calculator, key, value, recwarn):
    atoms = rattled_ethanol()
    calculator.evaluate(atoms)
    if key.startswith("initial"):
        atoms.set_array(key, np.full(9, value))
    else:
        atoms.info[key] = value
    expected = calculator.results["energy"]
    with pytest.warns(IgnoredInputWarning, match=f"ignores.*{key}"):
        assert calculator.evaluate(atoms)["energy"] == expected
    atoms.positions[0, 0] += 0.01
    calculator.evaluate(atoms)  # a second warning would be an error here
    assert not recwarn.list


@pytest.mark.parametrize("info", [{"charge": 0, "spin": 0}, {"spin": 1, "multiplicity": 1}, {"charge": None}])
def test_neutral_inputs_are_not_mentioned(calculator, info):
    atoms = rattled_ethanol()
    atoms.info.update(info)
    atoms.set_initial_charges(np.zeros(9))
    calculator.evaluate(atoms)


def test_options_that_cannot_be_honoured(pair_potential):
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match=r"sees 0 CUDA devices.*device='cpu'"):
            MLFFCalculator(pair_potential, device="cuda")
    for options, message in [
        ({"device": "gpu7"}, "unknown device 'gpu7'"),
        ({"device": "mps"}, "not supported"),
        ({"skin": -1.0}, "skin is -1.0"),
        ({"neighbor_backend": "matsipy"}, "did you mean 'matscipy'"),
    ]:
        with pytest.raises(OptionError, match=message):
            MLFFCalculator(pair_potential, **options)


def test_set_changes_parameters_and_drops_results(pair_potential):
    atoms = rattled_ethanol()
    calculator = MLFFCalculator(pair_potential, device="cpu")
    single = calculator.evaluate(atoms)["energy"]
    assert calculator.set(precision="float32") == {}
    assert calculator.results
    assert calculator.set(precision="float64") == {"precision": "float64"}
    assert not calculator.results
    assert calculator.evaluate(atoms)["energy"] != single
    with pytest.raises(OptionError, match="no parameter 'precison': did you mean 'precision'"):
        calculator.set(precison="float32")
    with pytest.raises(OptionError):
        calculator.set(skin=-1.0)
    assert calculator.parameters["skin"] == 0.5


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["deep", "pickle"]
)
def test_pickle_and_deepcopy(calculator, duplicate):
    atoms = rattled_silicon()
    atoms.calc = calculator
    forces = atoms.get_forces()
    other = duplicate(calculator)
    assert np.array_equal(other.results["forces"], forces)
    assert other.parameters == calculator.parameters
    moved = atoms.copy()
    moved.rattle(0.05, seed=9)
    moved.calc = other
    expected = MLFFCalculator(PairPotential(), precision="float64", device=calculator.device).evaluate(moved)
    assert np.allclose(moved.get_forces(), expected["forces"], rtol=0, atol=1e-12)
    assert atoms.get_forces() is not forces
    assert calculator.stats.n_calls == 1
    assert duplicate(atoms).calc.stats.n_calls == 1


def test_the_potential_given_is_left_alone(pair_potential):
    MLFFCalculator(pair_potential, precision="float32")
    assert pair_potential.precision == "float64"
    assert pair_potential.training


def test_todict_is_json_and_trajectories_keep_results(calculator, tmp_path):
    assert json.loads(json.dumps(calculator.todict(skip_default=False)))["precision"] == "float64"
    assert calculator.todict()["potential"] == "PairPotential"
    atoms = rattled_silicon()
    atoms.calc = calculator
    atoms.get_potential_energy()
    with Trajectory(tmp_path / "one.traj", "w") as file:
        file.write(atoms)
    with Trajectory(tmp_path / "one.traj") as file:
        assert np.array_equal(file[0].get_forces(), atoms.get_forces())
        assert np.array_equal(file[0].get_stress(), atoms.get_stress())
    assert calculator.export_properties()["energy"] == calculator.results["energy"]


def test_cell_relaxation_reaches_zero_stress(calculator):
    atoms = bulk("Cu", "fcc", a=3.9)
    atoms.rattle(0.05, seed=1)
    atoms.calc = calculator
    with BFGS(FrechetCellFilter(atoms), logfile=None) as optimizer:
        assert optimizer.run(fmax=1e-4, steps=100)
    assert np.abs(atoms.get_stress()).max() < 1e-4
