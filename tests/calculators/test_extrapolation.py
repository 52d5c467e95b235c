"""Structures outside the training data are warned about, once, and counted."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
from ase.build import molecule

from mlff_calc import MLFFCalculator, load_potential
from mlff_calc.calculators import DomainWarning
from mlff_calc.calculators.extrapolation import EVERY
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.graph.domain import domain_of
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
