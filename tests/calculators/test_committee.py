"""The committee: means, spreads, the threshold, and members with different cutoffs."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from mlff_calc.calculators import CommitteeCalculator, CommitteeWarning, MLFFCalculator
from mlff_calc.errors import OptionError, SimulationError, UnknownElementError

from .conftest import PairPotential, rattled_ethanol, rattled_silicon

MEMBERS = (PairPotential(scale=1.0), PairPotential(scale=1.3), PairPotential(cutoff=4.0, scale=0.9))


def committee(**options):
    return CommitteeCalculator(MEMBERS, precision="float64", device="cpu", **options)


@pytest.fixture(scope="module")
def alone():
    atoms = rattled_silicon(1)
    return [MLFFCalculator(member, precision="float64", device="cpu").evaluate(atoms) for member in MEMBERS]


@pytest.mark.parametrize("name", ["energy", "free_energy", "energies", "forces", "stress", "stresses"])
def test_results_are_means_over_the_members(alone, name):
    atoms = rattled_silicon(1)
    atoms.calc = committee()
    expected = np.mean([results[name] for results in alone], axis=0)
    assert np.allclose(atoms.calc.get_property(name, atoms), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["energy", "energies", "forces"])
def test_spreads_are_standard_deviations(alone, name):
    atoms = rattled_silicon(1)
    spread = committee().get_property(f"{name}_std", atoms)
    assert np.allclose(spread, np.std([results[name] for results in alone], axis=0), rtol=1e-10, atol=1e-14)


def test_equal_members_agree():
    calculator = CommitteeCalculator([MEMBERS[0]] * 2, precision="float64", device="cpu", threshold=1e-9, action="stop")
    results = calculator.evaluate(rattled_silicon(1))
    assert results["energy_std"] == 0.0
    assert not results["forces_std"].any()


def test_one_neighbour_list_serves_all_members():
    calculator = committee()
    calculator.evaluate(rattled_silicon(1))
    assert (calculator.stats.n_calls, calculator.stats.n_rebuilds) == (1, 1)
    assert calculator.cutoff == 5.0


def test_threshold_warns_beyond_it_only():
    atoms = rattled_silicon(1)
    worst = np.linalg.norm(committee().evaluate(atoms)["forces_std"], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        committee(threshold=1.01 * worst.max()).evaluate(atoms)
    atom = int(np.argmax(worst))
    with pytest.warns(CommitteeWarning, match=rf"spread of the force on atom {atom} \(Si\)"):
        committee(threshold=0.99 * worst.max()).evaluate(atoms)


def test_threshold_stops_with_the_results_stored():
    atoms, calculator = rattled_silicon(1), committee(threshold=1e-4, action="stop")
    with pytest.raises(SimulationError, match=r"above the threshold of 0\.0001\. Label this structure"):
        calculator.evaluate(atoms)
    assert np.linalg.norm(calculator.results["forces_std"], axis=1).max() > 1e-4
    assert np.array_equal(calculator.atoms.positions, atoms.positions)


def test_molecules_and_no_atoms():
    calculator = committee(threshold=1e6)
    assert "stress" not in calculator.evaluate(rattled_ethanol())
    assert calculator.evaluate(rattled_ethanol()[:0])["forces_std"].shape == (0, 3)


def test_ase_stores_results_that_it_has_names_for(tmp_path):
    atoms = rattled_silicon(1)
    atoms.calc = committee()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    exported = atoms.calc.export_properties()
    assert set(exported) - {"natoms"} == {"energy", "free_energy", "energies", "forces", "stress", "stresses"}
    assert "forces_std" in atoms.calc.results
    assert atoms.calc.calculate_properties(atoms, ["energy", "forces"])["energy"] == energy
    stored = atoms.copy()
    stored.calc = SinglePointCalculator(stored, **{name: exported[name] for name in ("energy", "forces", "stress")})
    assert stored.get_potential_energy() == energy
    for name in ("frame.traj", "frame.extxyz", "frame.json"):
        write(tmp_path / name, atoms)
        found = read(tmp_path / name)
        assert found.get_potential_energy() == pytest.approx(energy, abs=1e-7)
        assert np.allclose(found.get_forces(), forces, atol=1e-7)


def test_only_common_elements_are_known():
    members = [PairPotential(("H", "C", "O")), PairPotential(("H", "O", "Si"))]
    with pytest.raises(UnknownElementError, match=r"Si .*knows H O"):
        CommitteeCalculator(members, device="cpu").evaluate(rattled_silicon(1))
    with pytest.raises(OptionError, match="no element in common"):
        CommitteeCalculator([PairPotential(("H",)), PairPotential(("Si",))], device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threshold": 0.0}, "threshold is 0.0"), ({"action": "pause"}, "unknown action 'pause'.*warn, stop")],
)
def test_bad_options(options, message):
    with pytest.raises(OptionError, match=message):
        committee(**options)


@pytest.mark.parametrize("potentials", [[], [MEMBERS[0]], "silicon"])
def test_fewer_than_two_members(potentials):
    with pytest.raises(OptionError, match="at least two potentials"):
        CommitteeCalculator(potentials)


def test_pickle_and_set():
    calculator = committee()
    atoms = rattled_silicon(1)
    spread = calculator.evaluate(atoms)["forces_std"]
    other = pickle.loads(pickle.dumps(calculator))
    other.reset()
    assert np.array_equal(other.evaluate(atoms)["forces_std"], spread)
    other.set(threshold=1e-4, action="stop")
    with pytest.raises(SimulationError):
        other.evaluate(atoms)
    assert other.todict() == {"potentials": ["PairPotential"] * 3, "device": "cpu", "precision": "float64"} | {
        "threshold": 1e-4,
        "action": "stop",
    }
