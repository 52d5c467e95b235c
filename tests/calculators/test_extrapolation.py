"""Structures outside the training data are warned about, once, and counted."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
from ase.build import molecule

from mlff_calc import CommitteeCalculator, MLFFCalculator, load_potential
from mlff_calc.calculators import DomainWarning
from mlff_calc.calculators.extrapolation import EVERY
from mlff_calc.errors import OptionError, PotentialFileError, SimulationError
from mlff_calc.graph.domain import SPREAD, Domain, domain_of, united
from mlff_calc.potential import build_potential


def rattled(seed):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.fixture
def potential():
    potential = load_potential("ethanol")
    potential.domain = domain_of([rattled(seed) for seed in range(40)], potential.cutoff)
    return potential


def stretched():
    atoms = molecule("CH3CH2OH")
    atoms.positions *= 1.6
    return atoms


def test_stretched_molecule(potential):
    calculator = MLFFCalculator(potential)
    with pytest.warns(DomainWarning, match=r"neighbour of atom \d+ \(.\) is at .* the training data had"):
        calculator.evaluate(stretched())
    atoms = stretched()
    for step in range(1, 2 * EVERY + 1):  # a second warning would be an error in these tests
        atoms.positions += 0.0002 * step
        calculator.evaluate(atoms)
    assert calculator.stats.n_looks == 3
    assert calculator.stats.n_outside == 3
    assert "3 of 3 structures outside" in str(calculator.stats)


def test_a_structure_that_jumps_is_checked(potential):
    calculator = MLFFCalculator(potential)
    calculator.evaluate(rattled(1))
    with pytest.warns(DomainWarning):
        calculator.evaluate(stretched())
    assert (calculator.stats.n_looks, calculator.stats.n_outside) == (2, 1)


def test_a_missing_neighbour_is_reported(potential):
    with pytest.warns(DomainWarning, match=r"of atom \d \(.\) is not within 5 Angstrom, the training data had"):
        MLFFCalculator(potential).evaluate(molecule("H2O"))


def test_exported_files_keep_the_domain(potential, tmp_path):
    from mlff_calc.export import export_potential

    backbone = {"name": "hegnn", "cutoff": potential.cutoff, "l_max": 1, "channels": 4, "n_layers": 1}
    domain = potential.domain
    potential = build_potential({"backbone": backbone, "elements": ["H", "C", "O"]}, seed=0).eval()
    potential.domain = domain
    export_potential(potential, tmp_path / "ethanol.pt", to="torchscript")
    calculator = MLFFCalculator(str(tmp_path / "ethanol.pt"))
    calculator.evaluate(rattled(1))
    with pytest.warns(DomainWarning):
        calculator.evaluate(stretched())


def with_errors(spread):
    """A small potential with heads of errors, calibrated up to a spread of forces."""
    backbone = {"name": "hegnn", "cutoff": 5.0, "l_max": 1, "channels": 4, "n_layers": 1}
    config = {"backbone": backbone, "elements": ["H", "C", "O"], "uncertainty": {}}
    potential = build_potential(config, seed=0).eval()
    ranges = domain_of([rattled(seed) for seed in range(40)], potential.cutoff)
    potential.domain = {**ranges, SPREAD: spread}
    return potential


def widest(calculator, atoms):
    return float((calculator.evaluate(atoms)["forces_std"] ** 2).sum(axis=1).max() ** 0.5)


@pytest.mark.parametrize("exported", [False, True])
def test_a_spread_above_the_calibrated_one_is_seen_in_every_calculation(exported, tmp_path):
    from mlff_calc.export import export_potential

    spread = widest(MLFFCalculator(with_errors(1e9)), rattled(1))
    potential = with_errors(0.99 * spread)
    if exported:
        export_potential(potential, tmp_path / "ethanol.pt", to="torchscript")
        potential = str(tmp_path / "ethanol.pt")
    calculator = MLFFCalculator(potential, precision="float32")
    atoms = rattled(1)
    with pytest.warns(DomainWarning, match=r"spread of the force on atom \d \(.\) is .* calibrated to be trusted up to"):
        calculator.evaluate(atoms)
    for _ in range(3):  # said once, counted each time, also where distances are not looked at
        atoms.positions += 1e-9
        calculator.evaluate(atoms)
    assert (calculator.stats.n_looks, calculator.stats.n_outside) == (4, 4)
    strict = MLFFCalculator(potential, precision="float32", domain="stop")
    atoms = rattled(1)
    atoms.calc = strict
    for _ in range(2):  # refused again, and not taken from what was kept
        with pytest.raises(SimulationError, match="spread of the force"):
            atoms.get_forces()
    assert widest(MLFFCalculator(potential, precision="float32", domain="off"), rattled(1)) == pytest.approx(spread)


def test_a_spread_within_the_calibrated_one_is_silent():
    calculator = MLFFCalculator(with_errors(1e9))
    calculator.evaluate(rattled(1))
    assert (calculator.stats.n_looks, calculator.stats.n_outside) == (1, 0)


def test_a_structure_that_is_outside_in_two_ways_counts_once():
    calculator = MLFFCalculator(with_errors(1e-9))
    with pytest.warns(DomainWarning, match="the training data had"):
        calculator.evaluate(stretched())
    assert (calculator.stats.n_looks, calculator.stats.n_outside) == (1, 1)


def test_a_committee_does_not_read_the_calibrated_spread_of_a_member():
    other = with_errors(1.0)
    other.domain = None
    calculator = CommitteeCalculator([with_errors(1e-9), other])
    calculator.evaluate(rattled(1))
    assert calculator.stats.n_outside == 0


def test_training_drops_the_calibrated_spread():
    potential = with_errors(0.1)
    assert SPREAD not in united(potential.domain, domain_of([rattled(1)], potential.cutoff))


@pytest.mark.parametrize("spread", [0.0, -1.0, float("nan"), "wide"])
def test_spreads_that_are_no_spreads(spread):
    with pytest.raises(PotentialFileError, match="not what training writes"):
        Domain(with_errors(spread).domain)


def test_inside_is_silent(potential):
    calculator = MLFFCalculator(potential)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(EVERY + 1):
            calculator.evaluate(rattled(seed + 100))
    assert (calculator.stats.n_looks, calculator.stats.n_outside) == (2, 0)


def test_potentials_without_a_domain_are_silent(potential):
    potential.domain = None
    calculator = MLFFCalculator(potential)
    calculator.evaluate(stretched())
    assert calculator.stats.n_looks == 0


@pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_count_for_themselves(potential, again):
    calculator = MLFFCalculator(potential)
    other = again(calculator)
    with pytest.warns(DomainWarning):
        other.evaluate(stretched())
    assert (calculator.stats.n_outside, other.stats.n_outside) == (0, 1)


def test_files_keep_the_domain(potential, tmp_path):
    potential.save(str(tmp_path / "saved"), card="# x\n")
    assert load_potential(tmp_path / "saved").domain == potential.domain


def test_stop_refuses_again_and_off_does_not_check(potential):
    calculator = MLFFCalculator(potential, domain="stop")
    for _ in range(2):
        with pytest.raises(SimulationError, match="outside of what the potential was trained on"):
            calculator.evaluate(stretched())
    calculator.set(domain="off")
    calculator.evaluate(stretched())
    assert calculator.stats.n_looks == 2


def test_what_cannot_be_honoured(potential):
    with pytest.raises(OptionError, match="unknown domain 'halt'; choose one of warn, stop, off"):
        MLFFCalculator(potential, domain="halt")
    potential.domain = None
    with pytest.raises(OptionError, match="does not say what distances its training data had"):
        MLFFCalculator(potential, domain="stop")


def test_parameters_that_cannot_be_set_change_nothing(potential):
    calculator = MLFFCalculator(potential, domain="warn")
    with pytest.raises(OptionError, match="skin"):
        calculator.set(domain="stop", skin=-1.0)
    assert calculator.parameters["domain"] == calculator.watch.action == "warn"
