"""r-RESPA: the physics of the integrator, and runs with a truncated fixed-point potential."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLengths
from ase.md.verlet import VelocityVerlet

from mlff_calc.calculators import CommitteeCalculator, MLFFCalculator
from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions, read_log, set_maxwell_velocities
from mlff_calc.dynamics.multiple_time_steps import MultipleTimeSteps, truncated_calculator
from mlff_calc.errors import OptionError
from mlff_calc.potential import Potential, build_potential

FS = units.fs
SIZES = {"channels": 4, "heads": 2, "l_max": 1, "cutoff": 4.0}
RESPA = EnsembleOptions(timestep_fs=0.5, temperature_K=300.0, seed=2, respa=3, respa_evaluations=1)
EVERY = {"log_interval": 1, "traj_interval": 2}


@pytest.fixture(scope="module")
def potential() -> Potential:
    """Potential with random weights and a contractive map f, which changes the state by much more than a tolerance."""
    backbone = {"name": "deq", "block": "equiformer", "prelude": 0, "tolerance": 1e-6, "feedback": 0.1, **SIZES}
    config = {"backbone": backbone, "elements": ["H", "C", "O"], "scale": 0.5}
    return build_potential(config, seed=1).eval().to_precision("float64")


@pytest.fixture
def ethanol(bonded):
    """Return moving ethanol on springs."""

    def make() -> Atoms:
        atoms = molecule("CH3CH2OH")
        atoms.calc = bonded(atoms, 5.0)
        set_maxwell_velocities(atoms, 300.0, seed=1, conserves_momentum=True)
        return atoms

    return make


@pytest.fixture
def cheap(bonded):
    """Return springs that are too soft by a tenth."""
    return bonded(molecule("CH3CH2OH"), 4.5)


def _root_mean_square(numbers: np.ndarray) -> float:
    return float(np.sqrt((numbers**2).mean()))


def energies(dynamics, steps: int) -> np.ndarray:
    found = []
    for _ in range(steps):
        dynamics.step()
        found.append(dynamics.atoms.get_total_energy())
    return np.array(found)


@pytest.mark.parametrize("held", ["free", "atoms", "bonds"])
def test_with_interval_one_it_is_velocity_verlet(ethanol, cheap, held):
    one, other = ethanol(), ethanol()
    bonds = FixBondLengths([[0, 1], [1, 2]], tolerance=1e-13)
    constraint = {"free": None, "atoms": FixAtoms([0, 4]), "bonds": bonds}[held]
    for atoms in (one, other):
        atoms.set_constraint(constraint)
        atoms.set_momenta(atoms.get_momenta())
    VelocityVerlet(one, 0.5 * FS).run(30)
    MultipleTimeSteps(other, 0.5 * FS, cheap=cheap, interval=1).run(30)
    assert np.abs(one.positions - molecule("CH3CH2OH").positions).max() > 0.01
    np.testing.assert_allclose(other.positions, one.positions, atol=1e-10)
    np.testing.assert_allclose(other.get_momenta(), one.get_momenta(), atol=1e-10)


def test_with_the_force_itself_as_cheap_one_it_is_velocity_verlet(ethanol):
    one, other = ethanol(), ethanol()
    VelocityVerlet(one, 0.5 * FS).run(40)
    MultipleTimeSteps(other, 0.5 * FS, cheap=ethanol().calc, interval=4).run(10)
    np.testing.assert_allclose(other.positions, one.positions, atol=1e-12)


def test_back_in_time(ethanol, cheap):
    atoms, start = ethanol(), ethanol()
    dynamics = MultipleTimeSteps(atoms, 0.5 * FS, cheap=cheap, interval=4)
    for _ in range(100):
        dynamics.step()
    assert np.abs(atoms.positions - start.positions).max() > 0.05
    atoms.set_momenta(-atoms.get_momenta())
    for _ in range(100):
        dynamics.step()
    np.testing.assert_allclose(atoms.positions, start.positions, atol=1e-9)
    np.testing.assert_allclose(atoms.get_momenta(), -start.get_momenta(), atol=1e-9)


def test_the_accurate_energy_is_conserved_to_second_order(ethanol, cheap):
    spread = []
    for inner in (0.5, 0.25):
        dynamics = MultipleTimeSteps(ethanol(), inner * FS, cheap=cheap, interval=4)
        found = energies(dynamics, round(100 / inner))
        spread.append(found.std())
        assert abs(np.polyfit(np.arange(len(found)), found, 1)[0]) * len(found) < found.std()
    assert 3.0 < spread[0] / spread[1] < 5.0


def test_constraints_hold(ethanol, cheap):
    atoms = ethanol()
    before = atoms.positions[0].copy()
    length = atoms.get_distance(1, 2)
    atoms.set_constraint([FixAtoms([0]), FixBondLengths([[1, 2]], tolerance=1e-12)])
    atoms.set_momenta(atoms.get_momenta())
    found = energies(MultipleTimeSteps(atoms, 0.5 * FS, cheap=cheap, interval=3), 100)
    np.testing.assert_array_equal(atoms.positions[0], before)
    assert atoms.get_distance(1, 2) == pytest.approx(length, abs=1e-9)
    assert found.std() < 2e-3


def test_time_energy_and_calculator_are_those_of_outer_steps(ethanol, cheap):
    atoms = ethanol()
    calculator, seen = atoms.calc, []
    dynamics = MultipleTimeSteps(atoms, 0.5 * FS, cheap=cheap, interval=4)
    dynamics.attach(lambda: seen.append(atoms.get_potential_energy()))
    dynamics.run(3)
    assert atoms.calc is calculator
    assert dynamics.get_time() == pytest.approx(6.0 * FS)
    assert dynamics.todict()["interval"] == 4
    fresh = ethanol()
    fresh.positions = atoms.positions
    assert len(seen) == 4
    assert seen[-1] == fresh.get_potential_energy()


def test_given_forces_save_an_evaluation_and_change_nothing(ethanol, cheap):
    atoms, twin = ethanol(), ethanol()
    dynamics = MultipleTimeSteps(atoms, 0.5 * FS, cheap=cheap, interval=2)
    np.testing.assert_array_equal(dynamics.forces[0], atoms.get_forces())
    dynamics.step()
    twin.positions, saved = atoms.positions.copy(), dynamics.forces.copy()
    twin.set_momenta(atoms.get_momenta())
    resumed = MultipleTimeSteps(twin, 0.5 * FS, cheap=cheap, interval=2)
    resumed.forces = saved
    dynamics.step()
    resumed.step()
    np.testing.assert_array_equal(atoms.positions, twin.positions)
    np.testing.assert_array_equal(atoms.get_momenta(), twin.get_momenta())
    with pytest.raises(OptionError, match=r"\(2, 9, 3\)"):
        resumed.forces = saved[0]


def test_atoms_moved_between_steps_get_their_own_forces(ethanol, cheap):
    atoms, twin = ethanol(), ethanol()
    dynamics = MultipleTimeSteps(atoms, 0.5 * FS, cheap=cheap, interval=2)
    dynamics.step()
    atoms.positions[0] += 0.1
    twin.positions = atoms.positions
    twin.set_momenta(atoms.get_momenta())
    dynamics.step()
    MultipleTimeSteps(twin, 0.5 * FS, cheap=cheap, interval=2).step()
    np.testing.assert_array_equal(atoms.positions, twin.positions)


def test_a_truncated_potential_keeps_the_converged_energy(potential):
    """Errors are of second order, and no larger than those of velocity Verlet with steps as long as the outer ones."""

    def error(inner_fs: float, interval: int) -> float:
        """Return the root mean square deviation of the accurate energy from its first value, over 24 fs."""
        atoms = molecule("CH3OH")
        atoms.calc = MLFFCalculator(potential, device="cpu", precision="float64", reuse="none")
        set_maxwell_velocities(atoms, 300.0, seed=1, conserves_momentum=True)
        first = atoms.get_total_energy()
        if interval == 1:
            return _root_mean_square(energies(VelocityVerlet(atoms, inner_fs * FS), round(24.0 / inner_fs)) - first)
        cheap = truncated_calculator(atoms.calc, 1)
        dynamics = MultipleTimeSteps(atoms, inner_fs * FS, cheap=cheap, interval=interval)
        found = energies(dynamics, round(24.0 / inner_fs / interval)) - first
        assert np.abs(dynamics.forces[0] - dynamics.forces[1]).max() > 1e-3  # so the correction matters
        return _root_mean_square(found)

    long, short = error(0.5, 2), error(0.25, 2)
    assert long / short > 3.0
    assert short < 1.2 * error(0.5, 1)


@pytest.mark.parametrize("reuse", ["none", "conservative"])
def test_a_run_and_its_restart(potential, tmp_path, same_run, reuse):
    def calculator() -> MLFFCalculator:
        return MLFFCalculator(potential, device="cpu", precision="float64", reuse=reuse)

    atoms = molecule("CH3OH")
    for name, steps in (("whole", 8), ("parts", 0)):
        atoms.calc = calculator()
        MDRun.start(atoms, tmp_path / name, RESPA, RunOptions(steps=steps, **EVERY)).run()
    for steps in (3, 8):
        run = MDRun.resume(tmp_path / "parts", calculator(), steps=steps, respa=3)
        run.run()
    same_run(tmp_path / "whole", tmp_path / "parts")
    log = read_log(tmp_path / "whole/log.csv")
    np.testing.assert_allclose(log["time_ps"], 1.5e-3 * np.arange(9), rtol=1e-12)
    exact = MLFFCalculator(potential, device="cpu", precision="float64", reuse="none").evaluate(run.atoms)["energy"]
    assert log["potential_eV"][-1] == pytest.approx(exact, abs=1e-6)
    rough = truncated_calculator(calculator(), 1).evaluate(run.atoms)["energy"]
    assert abs(rough - exact) > 1e-4
    with pytest.raises(OptionError, match="respa = 4 differs from 3"):
        MDRun.resume(tmp_path / "parts", calculator(), respa=4)


def test_runs_saved_before_multiple_time_steps_existed_continue(copper, tmp_path):
    MDRun.start(copper(1), tmp_path / "run", EnsembleOptions(), RunOptions(steps=2, **EVERY)).run()
    content = json.loads((tmp_path / "run/state.json").read_text())
    for name in ("respa", "respa_evaluations"):
        del content["options"][name]
    del content["sha256"]  # older states have no checksum
    (tmp_path / "run/state.json").write_text(json.dumps(content))
    assert MDRun.resume(tmp_path / "run", EMT(), steps=4, respa=1).run().step == 4


def test_what_is_refused(potential, copper, cheap, tmp_path):
    for wrong in ({"respa": 0}, {"respa_evaluations": 0}):
        with pytest.raises(OptionError, match="must be at least 1"):
            EnsembleOptions(**wrong)
    for ensemble in ("langevin", "npt"):
        with pytest.raises(OptionError, match=f"respa = 2 with ensemble {ensemble}.*nve"):
            EnsembleOptions(ensemble=ensemble, respa=2)
    for wrong in (0, 1.5, True):
        with pytest.raises(OptionError, match=f"interval = {wrong}"):
            MultipleTimeSteps(copper(1), FS, cheap=cheap, interval=wrong)
    with pytest.raises(OptionError, match="timestep = 0"):
        MultipleTimeSteps(copper(1), 0.0, cheap=cheap, interval=2)
    explicit = build_potential(
        {"backbone": {"name": "equiformer", "n_layers": 1, **SIZES}, "elements": ["H", "O"]}, seed=1
    )
    calculators = {
        "backbone equiformer": MLFFCalculator(explicit, device="cpu"),
        "CommitteeCalculator has none": CommitteeCalculator([potential, potential], device="cpu"),
        "EMT has none": EMT(),
    }
    for said, calculator in calculators.items():
        atoms = molecule("H2O")
        atoms.calc = calculator
        with pytest.raises(OptionError, match=said):
            MDRun.start(atoms, tmp_path / "run", RESPA, RunOptions(steps=2)).run()
        assert not (tmp_path / "run").exists()


def test_the_command(potential, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    potential.to_precision("float32").save("deq", card="# random", recipe="")

    def mlff(*words: object) -> int:
        return run_cli(build_app(), ["md", "deq", "--quiet", "--structure", "CH3OH", *map(str, words)])

    assert mlff("--respa", 4, "--time", "12fs", "--log-interval", "4fs", "--traj-interval", 6, "-o", "run") == 0
    np.testing.assert_allclose(read_log("run/log.csv")["time_ps"], [0.0, 0.004, 0.008, 0.012])
    assert mlff("--time", "16fs", "-o", "run", "--resume") == 0
    assert read_log("run/log.csv")["step"][-1] == 8
    capsys.readouterr()
    for words, said in (
        (("--respa", 4, "--ensemble", "langevin"), "multiple time steps are for nve"),
        (("--respa-evaluations", 3), "Give --respa as well"),
        (("--respa", 2, "-o", "run", "--resume"), "--respa = 2 differs from 4"),
    ):
        assert mlff(*words) != 0
        assert said in " ".join(capsys.readouterr().err.split())
