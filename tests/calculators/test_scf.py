"""`SCFCalculator` by ASE's rules, its forces, its memory, and by name in `mlff md` and `mlff relax`."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read, write

pytest.importorskip("pyscf")

from mlff_calc.calculators.named import names_scf, scf_calculator
from mlff_calc.calculators.scf import SCFCalculator
from mlff_calc.dynamics.md import run_md
from mlff_calc.electronic.hamiltonian import build_hamiltonian
from mlff_calc.electronic.scf.labels import basis_of
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import OptionError, SimulationError, StructureError
from mlff_calc.sampling.calculators import evaluator_of

SMALL = {"xc": "pbe", "basis": "sto-3g", "grid_level": 0}
WORD = "scf:xc=pbe,basis=sto-3g,grid_level=0,start=aspc"


@pytest.fixture
def water() -> Atoms:
    return Atoms("OH2", [[0.0, 0.02, 0.12], [0.0, 0.76, -0.48], [0.03, -0.79, -0.46]])


def test_forces_are_slopes_of_the_energy(water):
    calculator = SCFCalculator(**SMALL, conv_tol=1e-12)
    water.calc = calculator
    forces, step = water.get_forces(), 1e-3
    assert abs(forces.sum(axis=0)).max() < 1e-8
    for atom, axis in ((0, 2), (1, 1), (2, 0)):
        energies = []
        for sign in (1, -1):
            moved = water.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(calculator.get_potential_energy(moved))
        slope = (energies[0] - energies[1]) / (2 * step)
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-5 * units.Hartree / units.Bohr)


def test_results_have_ases_units_and_are_those_of_pyscf(water):
    from pyscf import dft, gto

    water.calc = SCFCalculator(**SMALL)
    mf = dft.RKS(gto.M(atom=[(a.symbol, a.position) for a in water], basis="sto-3g", verbose=0))
    mf.xc, mf.grids.level = "pbe", 0
    mf.kernel()
    assert water.get_potential_energy() == pytest.approx(mf.e_tot * units.Hartree, abs=1e-6)
    np.testing.assert_allclose(water.get_dipole_moment(), mf.dip_moment(verbose=0) * units.Debye, atol=1e-4)
    np.testing.assert_allclose(water.get_charges(), mf.mulliken_pop(verbose=0)[1], atol=1e-5)
    with pytest.raises(PropertyNotImplementedError):
        water.get_stress()


def test_nothing_is_computed_twice_and_forces_only_on_request(water):
    calculator = SCFCalculator(**SMALL)
    water.calc = calculator
    water.get_potential_energy()
    water.get_dipole_moment()
    assert (calculator.stats.calls, calculator.stats.gradients) == (1, 0)
    forces = water.get_forces()
    forces[:] = 0.0  # what is handed out is a copy
    assert np.abs(water.get_forces()).max() > 0.1
    assert (calculator.stats.calls, calculator.stats.gradients) == (1, 1)
    before = water.positions.copy()
    water.positions[0, 0] += 1e-4
    assert calculator.get_property("energy", water, allow_calculation=False) is None
    assert calculator.calculation_required(water, ["energy"])
    water.get_potential_energy()
    assert calculator.stats.calls == 2
    assert "forces" not in calculator.results
    np.testing.assert_array_equal(before[1:], water.positions[1:])
    assert calculator.stats.fock_builds > 2
    assert calculator.stats.seconds > 0.0


def test_parameters_change_the_calculator_or_are_refused(water):
    calculator = SCFCalculator(**SMALL)
    energy = calculator.get_potential_energy(water)
    calculator.set(xc="lda,vwn")
    assert abs(calculator.get_potential_energy(water) - energy) > 1.0
    for parameters, match in (
        ({"xs": 1}, "no parameter 'xs'"),
        ({"xc": "pbeee"}, "unknown functional"),
        ({"grid_level": 10}, "grid_level"),
        ({"start": "model"}, "model"),
        ({"charge": 0.5}, "whole number"),
        ({"order": 7}, "0 to 4"),
    ):
        with pytest.raises(OptionError, match=match):
            calculator.set(**parameters)
    assert calculator.parameters["xc"] == "lda,vwn"


def test_structures_that_are_no_closed_shell_molecules_are_refused(water):
    calculator = SCFCalculator(**SMALL)
    periodic = water.copy()
    periodic.cell, periodic.pbc = [5, 5, 5], True
    charged = water.copy()
    charged.info["charge"] = 2
    for atoms, match in ((periodic, "periodic"), (charged, "set charge=2"), (water[:2], "odd"), (Atoms(), "no atoms")):
        with pytest.raises(StructureError, match=match):
            calculator.get_potential_energy(atoms)
    ion = SCFCalculator(**SMALL, charge=-1)
    assert ion.get_potential_energy(water[:2]) < 0.0
    assert ion.results["charges"].sum() == pytest.approx(-1.0)


def test_a_failed_scf_leaves_no_results_behind(water):
    calculator = SCFCalculator(**SMALL, max_cycle=1)
    with pytest.raises(SimulationError, match="did not converge"):
        calculator.get_potential_energy(water)
    assert calculator.results == {}
    assert calculator.get_property("energy", water, allow_calculation=False) is None


def test_pickles_compute_the_same(water):
    calculator = SCFCalculator(**SMALL)
    energy = calculator.get_potential_energy(water)
    other = pickle.loads(pickle.dumps(calculator))
    np.testing.assert_allclose(other.get_forces(water), calculator.get_forces(water), atol=1e-4)
    assert other.get_potential_energy(water) == pytest.approx(energy, abs=1e-6)


def test_names_on_command_lines():
    assert [names_scf(text) for text in ("scf", WORD, "scfnet", "water")] == [True, True, False, False]
    made = scf_calculator("scf:xc=lda,vwn,density_fit=yes,order=1,conv_tol=1e-8,charge=-1", basis="sto-3g")
    assert made.parameters["xc"] == "lda,vwn"
    assert made.parameters["basis"] == "sto-3g"
    assert made.parameters["density_fit"] is True
    assert (made.parameters["order"], made.parameters["conv_tol"], made.parameters["charge"]) == (1, 1e-8, -1)
    for text, match in (
        ("scf:basys=sto-3g", "did you mean 'basis'"),
        ("scf:pbe", "not a parameter"),
        ("scf:order=two", "whole number"),
        ("scf:xc", "xc has no value; write xc=VALUE"),
        ("scf:xc=pbe,basis=sto-3g,xc=hf", "xc is given twice"),
        ("scf:density_fit=maybe", "true or false"),
        ("scf:conv_tol=small", "a number"),
    ):
        with pytest.raises(OptionError, match=match):
            scf_calculator(text)


def test_a_run_that_is_resumed_is_the_run_that_was_not_stopped(water, tmp_path):
    def run(name: str, steps: int, word: str = WORD, **more):
        return run_md(water, scf_calculator(word), output=tmp_path / name, steps=steps, traj_interval=2, **more)

    run("whole", 6)
    run("parts", 4)
    resumed = run("parts", 6, resume=True)
    assert resumed.completed
    last = [read(tmp_path / name / "trajectory.traj") for name in ("whole", "parts")]
    np.testing.assert_array_equal(last[0].positions, last[1].positions)
    with pytest.raises(OptionError, match="differs from"):
        run("parts", 8, word=WORD.replace("pbe", "blyp"), resume=True)


def test_md_and_relax_take_an_scf_by_name(mlff, water, tmp_path):
    write(tmp_path / "water.xyz", water)
    done = mlff("md", WORD, "-s", "water.xyz", "--steps", "2", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = mlff("relax", WORD, "water.xyz", "--fmax", "1.0", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.linalg.norm(read(tmp_path / "water_relaxed.extxyz").get_forces(), axis=1).max() < 1.0
    refused = mlff("relax", WORD, "water.xyz", "--overwrite", "--precision", "float32", cwd=tmp_path)
    assert refused.returncode != 0
    assert "--precision is for potentials" in refused.stderr


def test_sampling_takes_an_scf_by_name():
    from mlff_calc.sampling.calculators import Scf

    evaluator = evaluator_of(WORD, charge=1)
    assert evaluator.factory == Scf(WORD, 1)
    with pytest.raises(OptionError, match="not a parameter"):
        evaluator_of("scf:bases=sto-3g")


def test_models_given_as_objects_are_told_apart_by_their_weights():
    config = {"basis": basis_of("sto-3g", [1, 8]), "settings": SCFSettings("pbe", "sto-3g").to_dict(), "layers": 1}
    networks = [build_hamiltonian(config, seed=seed) for seed in (0, 1, 1)]
    first, second, again = (SCFCalculator("pbe", "sto-3g", start="model", model=one).identity for one in networks)
    assert first != second == again
