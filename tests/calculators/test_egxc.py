"""`EGXCCalculator`: results, starts from the last density, statistics, what is refused, and by name in commands."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

pytest.importorskip("pyscf")

import mlff_calc
from mlff_calc.calculators.egxc import EGXCCalculator
from mlff_calc.calculators.named import names_scf, scf_calculator
from mlff_calc.calculators.scf import SCFCalculator
from mlff_calc.electronic.functional import FunctionalNetwork, build_functional
from mlff_calc.errors import ConvergenceError, OptionError, PotentialFileError, StructureError, UnknownElementError

SMALL = {"base": "pbe", "basis": "sto-3g", "grid_level": 0, "elements": [1, 8], "channels": 8}


@pytest.fixture
def water() -> Atoms:
    return Atoms("OH2", [[0.0, 0.02, 0.12], [0.0, 0.76, -0.48], [0.03, -0.79, -0.46]])


@pytest.fixture(scope="module")
def network() -> FunctionalNetwork:
    network = build_functional(SMALL | {"constants": {"8": -0.5}}, seed=0)
    with torch.no_grad():
        network.weights.scale.fill_(0.02)
        network.readout[2].weight.fill_(1e-3)
    return network


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    return network.save(tmp_path_factory.mktemp("functional") / "one", card="# one", recipe="")


def test_forces_are_slopes_of_the_energy(water, network):
    calculator = EGXCCalculator(network, conv_tol=1e-12)
    water.calc = calculator
    forces, step = water.get_forces(), 1e-3
    assert abs(forces.sum(axis=0)).max() < 1e-7
    energies = []
    for sign in (1, -1):
        other = water.copy()
        other.positions[1, 1] += sign * step
        energies.append(calculator.get_potential_energy(other))
    slope = (energies[0] - energies[1]) / (2 * step)
    assert forces[1, 1] == pytest.approx(-slope, abs=1e-5 * units.Hartree / units.Bohr)
    water.rotate(90, "z")
    assert water.get_dipole_moment().shape == (3,)


def test_an_untrained_functional_is_the_base_in_the_same_units(water):
    network = build_functional(SMALL | {"constants": {"1": 0.5}})
    own, base = EGXCCalculator(network), SCFCalculator(xc="pbe", basis="sto-3g", grid_level=0)
    energy = own.get_potential_energy(water)
    assert energy == pytest.approx(base.get_potential_energy(water) + units.Hartree, abs=0.02)  # its grid is pruned
    np.testing.assert_allclose(own.get_dipole_moment(water), base.get_dipole_moment(water), atol=1e-3)
    assert own.mean_field.grids.prune is None
    assert mlff_calc.EGXCCalculator is EGXCCalculator


def test_the_last_density_is_the_next_start(water, network):
    cold, warm = EGXCCalculator(network, start="minao"), EGXCCalculator(network)
    for step in range(3):
        water.positions[1, 2] += 0.005 * step
        assert warm.get_potential_energy(water) == pytest.approx(cold.get_potential_energy(water), abs=1e-5)
    assert warm.stats.calls == cold.stats.calls == 3
    assert warm.stats.cycles < cold.stats.cycles
    assert (warm.stats.failures, warm.stats.retries, warm.history_free) == (0, 0, False)
    state = pickle.loads(pickle.dumps(warm))
    assert state.get_potential_energy(water) == pytest.approx(warm.get_potential_energy(water), abs=1e-6)


def test_an_scf_that_does_not_converge_is_repeated_once_and_counted(water, network):
    calculator = EGXCCalculator(network, max_cycle=1, conv_tol=1e-13)
    with pytest.raises(ConvergenceError, match=r"structure 0: .* H2O with charge 0 did not .* \(max_cycle\)"):
        calculator.get_potential_energy(water)
    stats = calculator.stats
    assert (stats.failures, stats.retries, stats.cycles, stats.calls) == (1, 1, 2, 0)
    calculator.set(max_cycle=5, conv_tol=1e-8)
    assert np.isfinite(calculator.get_potential_energy(water))  # the second attempt is enough
    assert (calculator.stats.failures, calculator.stats.retries) == (1, 2)
    calculator.set(max_cycle=50, conv_tol=1e-8)
    assert np.isfinite(calculator.get_potential_energy(water))


def test_what_was_not_trained_is_refused_unless_allowed(water, network, tmp_path):
    calculator = EGXCCalculator(network)
    with pytest.raises(UnknownElementError, match="allow_other_elements"):
        calculator.get_potential_energy(Atoms("N2", [[0, 0, 0], [0, 0, 1.1]]))
    with pytest.raises(OptionError, match="allow_charge"):
        EGXCCalculator(network, charge=2).get_potential_energy(water)
    with pytest.raises(OptionError, match="allow_other_basis"):
        EGXCCalculator(network, basis="3-21g").get_potential_energy(water)
    with pytest.raises(OptionError, match="allow_other_grid"):
        EGXCCalculator(network, grid_level=1).get_potential_energy(water)
    allowed = EGXCCalculator(network, basis="3-21g", grid_level=1, allow_other_basis=True, allow_other_grid=True)
    assert allowed.get_potential_energy(water) < calculator.get_potential_energy(water) - 1.0
    with pytest.raises(StructureError, match="odd number of electrons"):
        calculator.get_potential_energy(Atoms("OH", [[0, 0, 0], [0, 0, 1]]))
    with pytest.raises(OptionError, match="give a functional"):
        EGXCCalculator(None)
    with pytest.raises(PotentialFileError, match="no functional"):
        EGXCCalculator(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="unknown basis"):
        EGXCCalculator(network, basis="sto-4h")


def test_names_on_command_lines(folder, network):
    word = f"functional:{folder},start=aspc,grid_response=false,allow_charge=yes,charge=2"
    assert names_scf(word)
    calculator = scf_calculator(word, charge=0)
    assert isinstance(calculator, EGXCCalculator)
    assert calculator.functional.sha256 == network.sha256
    kept = calculator.todict()
    assert (kept["start"], kept["grid_response"], kept["charge"], kept["functional"]) == ("aspc", False, 2, str(folder))
    assert EGXCCalculator(network).todict() == {"functional": f"sha256:{network.sha256}"}
    for wrong in ("functional:", "functional:start=aspc", f"functional:{folder},xc=pbe"):
        with pytest.raises(OptionError, match="functional"):
            scf_calculator(wrong)


def test_md_and_relax_take_a_functional_by_name(mlff, water, folder, tmp_path):
    write(tmp_path / "water.xyz", water)
    word = f"functional:{folder}"
    done = mlff("md", word, "-s", "water.xyz", "--steps", "2", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = mlff("relax", word, "water.xyz", "--fmax", "3.0", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.isfinite(read(tmp_path / "water_relaxed.extxyz").get_potential_energy())


def test_without_pyscf_the_error_says_what_to_install(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyscf.dft.libxc", None)
    with pytest.raises(OptionError, match=r"pip install .mlff_calc\[electronic\]"):
        EGXCCalculator(network)


@pytest.mark.slow
def test_dynamics_at_constant_energy_do_not_drift(network):
    """200 steps of 0.5 fs of water from its optimised structure: no failures, and the energy does not drift."""
    atoms = molecule("H2O")
    atoms.calc = EGXCCalculator(network)
    assert BFGS(atoms, logfile=None).run(fmax=0.01, steps=60)
    assert 0.9 < atoms.get_distance(0, 1) < 1.1
    rng = np.random.default_rng(0)
    momenta = rng.normal(size=(3, 3)) * np.sqrt(600.0 * units.kB * atoms.get_masses())[:, None]
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    dynamics, energies = VelocityVerlet(atoms, 0.5 * units.fs), []
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
    dynamics.run(200)
    drift = 200.0 * np.polyfit(np.arange(201), np.array(energies) / 3.0, 1)[0]
    assert abs(drift) < 0.5e-3  # eV/atom
    assert np.abs(np.array(energies) - energies[0]).max() / 3.0 < 2e-3
    stats = atoms.calc.stats
    assert (stats.failures, stats.fallbacks) == (0, 0)
