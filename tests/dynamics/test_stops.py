"""Conditions that stop a run, and the files that are left."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read

from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions
from mlff_calc.errors import OptionError, SimulationError, StructureError

EVERY = {"log_interval": 2, "traj_interval": 4}


@pytest.fixture
def failing(einstein):
    """Return a calculator that calls `what(calculator)` at the given call."""

    def make(atoms, call, what):
        class Failing(einstein):
            calls = 0

            def calculate(self, *arguments, **more):
                super().calculate(*arguments, **more)
                self.calls += 1
                if self.calls >= call:
                    what(self)

        return Failing(atoms.positions)

    return make


def start(tmp_path, calc, *, overwrite=False, **more):
    atoms = molecule("H2O")
    atoms.calc = calc(atoms)
    options = RunOptions(steps=50, **EVERY, **more)
    return MDRun.start(atoms, tmp_path / "run", EnsembleOptions(), options, overwrite=overwrite)


def set_nan(calculator):
    calculator.results["forces"][1, 2] = np.nan


def heat(calculator):
    calculator.results["forces"] = 1e5 * np.ones((3, 3))


def test_forces_that_are_not_finite_stop_with_a_frame(tmp_path, failing):
    run = start(tmp_path, lambda atoms: failing(atoms, 11, set_nan))
    with pytest.raises(
        SimulationError, match=r"step 10 .*force on atom 1 \(H\).*nan.*shorter timestep.*stopped\.extxyz"
    ):
        run.run()
    frame = read(tmp_path / "run/stopped.extxyz")
    assert frame.info["step"] == 10
    assert np.isfinite(frame.positions).all()
    assert [atoms.info["step"] for atoms in read(tmp_path / "run/trajectory.traj", ":")] == [0, 4, 8]


def test_an_energy_that_is_not_finite_stops(tmp_path, failing):
    run = start(tmp_path, lambda atoms: failing(atoms, 4, lambda calc: calc.results.update(energy=np.inf)))
    with pytest.raises(SimulationError, match="energy is inf"):
        run.run()


def overlap(_):
    raise StructureError("atoms 0 and 1 overlap")


def disagree_widely(calculator):
    calculator.results["forces_std"] = np.full((3, 3), 9.0)


BAD_STARTS = [
    (set_nan, {}, SimulationError, "step 0"),
    (overlap, {}, StructureError, "overlap"),
    (disagree_widely, {"threshold": 0.3}, SimulationError, r"threshold of 0\.3"),
    (heat, {"max_temperature_K": 200.0}, SimulationError, "limit of 200 K"),
    (lambda _: None, {"threshold": 0.3}, OptionError, "forces_std"),
]


@pytest.mark.parametrize(("what", "more", "error", "says"), BAD_STARTS)
def test_a_start_that_fails_makes_no_folder(tmp_path, failing, what, more, error, says):
    run = start(tmp_path, lambda atoms: failing(atoms, 1, what), **more)
    with pytest.raises(error, match=says):
        run.run()
    assert not run.begun
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("what", "more", "error", "says"), BAD_STARTS)
def test_a_start_that_fails_leaves_the_run_it_would_replace(tmp_path, failing, einstein, what, more, error, says):
    start(tmp_path, lambda atoms: einstein(atoms.positions)).run()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert {"trajectory.traj", "log.csv", "state.json"} <= set(before)
    with pytest.raises(error, match=says):
        start(tmp_path, lambda atoms: failing(atoms, 1, what), overwrite=True, **more).run()
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_exploding_temperature_stops_at_the_limit(tmp_path, failing):
    run = start(tmp_path, lambda atoms: failing(atoms, 6, heat))
    with pytest.raises(SimulationError, match=r"above the limit of 3000 K \(max_temperature_K\)"):
        run.run()
    run = MDRun.resume(tmp_path / "run", failing(molecule("H2O"), 99999, heat))
    assert run.state.step == 4
    assert run.run().completed


def test_the_limit_of_the_temperature_can_be_set(tmp_path, einstein):
    with pytest.raises(SimulationError, match="limit of 200 K"):
        start(tmp_path, lambda atoms: einstein(atoms.positions), max_temperature_K=200.0).run()


@pytest.mark.parametrize("shape", [(3,), (3, 3)])
def test_a_committee_beyond_the_threshold_stops(tmp_path, failing, shape):
    spread = np.zeros(shape)
    spread[2] = 0.5

    def disagree(calculator):
        calculator.results["forces_std"] = spread if calculator.calls > 7 else 0.1 * spread

    run = start(tmp_path, lambda atoms: failing(atoms, 1, disagree), threshold=0.3)
    size = "0.500" if shape == (3,) else "0.866"
    with pytest.raises(SimulationError, match=rf"step 7 .*atom 2 \(H\) is {size} eV.*threshold of 0\.3.*Label"):
        run.run()
    assert read(tmp_path / "run/stopped.extxyz").info["step"] == 7


def test_a_threshold_without_a_committee_is_refused(tmp_path, einstein):
    with pytest.raises(OptionError, match="forces_std"):
        start(tmp_path, lambda atoms: einstein(atoms.positions), threshold=0.3).run()


def test_a_failing_calculator_stops_with_a_frame_and_its_own_words(tmp_path, failing):
    with pytest.raises(SimulationError, match="atoms 0 and 1 overlap") as caught:
        start(tmp_path, lambda atoms: failing(atoms, 9, overlap)).run()
    assert isinstance(caught.value.__cause__, StructureError)
    assert (tmp_path / "run/stopped.extxyz").exists()


def test_npt_without_stress_is_refused(tmp_path, copper, einstein):
    atoms = copper(1)
    atoms.calc = einstein(atoms.positions)
    with pytest.raises(OptionError, match=r"npt.*stress"):
        MDRun.start(atoms, tmp_path / "run", EnsembleOptions(ensemble="npt"), RunOptions(steps=5)).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_with_a_state(tmp_path, failing, einstein, same_run, number):
    def interrupt(calculator):
        if calculator.calls == 14:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    result = start(tmp_path, lambda atoms: failing(atoms, 1, interrupt)).run()
    assert (result.step, result.completed, result.interrupted) == (13, False, number.name)
    assert signal.getsignal(number) is before
    MDRun.resume(tmp_path / "run", einstein(molecule("H2O").positions)).run()
    start(tmp_path / "whole", lambda atoms: einstein(atoms.positions)).run()
    same_run(tmp_path / "run", tmp_path / "whole" / "run")


def test_a_second_ctrl_c_interrupts_at_once(tmp_path, failing):
    def twice(calculator):
        if calculator.calls == 6:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, lambda atoms: failing(atoms, 1, twice)).run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_options_out_of_range_are_refused_by_name(tmp_path):
    for name, bad in (
        ("steps", -1),
        ("log_interval", 0),
        ("traj_interval", 0),
        ("checkpoint_interval", 0),
        ("max_temperature_K", 0.0),
        ("threshold", float("nan")),
        ("velocities", "hot"),
    ):
        with pytest.raises(OptionError, match=name):
            RunOptions(**{"steps": 1, name: bad})
    with pytest.raises(OptionError, match="no calculator"):
        MDRun.start(molecule("H2O"), tmp_path / "run", EnsembleOptions(), RunOptions(steps=1))


def test_a_folder_that_cannot_be_made(tmp_path, copper):
    (tmp_path / "file").write_text("")
    run = MDRun.start(copper(1), tmp_path / "file" / "run", EnsembleOptions(), RunOptions(steps=1))
    with pytest.raises(SimulationError, match="cannot write"):
        run.run()


def _break(calculator, what):
    """Faults of a calculator, or of the integrator after it."""
    if what == "energy":
        calculator.results["energy"] = np.nan
    elif what == "forces":
        calculator.results["forces"][2, 0] = np.inf
    elif what == "positions":
        calculator.run.atoms.positions[0, 1] = np.nan
    elif what == "velocities":
        calculator.run.atoms.arrays["momenta"][1, 1] = np.nan
    elif what == "cell":
        calculator.run.atoms.cell.array[0, 0] = np.inf


@pytest.mark.parametrize(
    ("what", "keeps"),  # langevin replaces velocities that are not finite
    [("velocities", "nve"), *((what, keeps) for what in ("energy", "forces", "positions", "cell", "raise")
                              for keeps in ("nve", "langevin"))],
)  # fmt: skip
def test_structures_saved_from_a_failed_run_are_finite(tmp_path, failing, what, keeps):
    def break_down(calculator):
        _break(calculator, what)
        if what in ("raise", "cell", "positions"):
            calculator.run.atoms.positions[0, 1] = np.nan
            raise StructureError("atom 0 is nowhere")

    atoms = molecule("H2O")
    atoms.calc = failing(atoms, 8, break_down)
    run = MDRun.start(atoms, tmp_path / "run", EnsembleOptions(ensemble=keeps), RunOptions(steps=50, **EVERY))
    atoms.calc.run = run
    with pytest.raises(SimulationError, match="stopped at step"):
        run.run()
    frames = read(tmp_path / "run/stopped.extxyz", ":")
    for frame in frames:
        assert np.isfinite(frame.positions).all()
        assert np.isfinite(frame.get_momenta()).all()
        assert np.isfinite(frame.cell.array).all()
    whole = [frame for frame in frames if frame.get_momenta().any()]
    assert whole[0].info["step"] in (6, 7)
    if whole[0].info["step"] == 6:
        assert np.isfinite(whole[0].get_potential_energy())
        assert np.isfinite(whole[0].get_forces()).all()
    if what in ("raise", "cell", "positions"):
        assert len(frames) == 1
        assert whole[0].info["step"] == 6
    for frame in read(tmp_path / "run/trajectory.traj", ":"):
        assert np.isfinite(frame.positions).all()


def test_the_last_whole_frame_is_the_one_of_a_run_that_ended_there(tmp_path, failing, einstein):
    with pytest.raises(SimulationError, match=r"The last whole frame, of step 6 and the structure at which it stopped"):
        start(tmp_path, lambda atoms: failing(atoms, 8, set_nan)).run()
    last, broken = read(tmp_path / "run/stopped.extxyz", ":")
    atoms = molecule("H2O")
    atoms.calc = einstein(atoms.positions)
    other = MDRun.start(atoms, tmp_path / "other", EnsembleOptions(), RunOptions(steps=6, **EVERY))
    other.run()
    np.testing.assert_allclose(last.positions, other.atoms.positions, atol=1e-7)
    np.testing.assert_allclose(last.get_momenta(), other.atoms.get_momenta(), atol=1e-7)
    np.testing.assert_allclose(last.get_forces(), other.atoms.get_forces(), atol=1e-7)
    assert last.get_potential_energy() == pytest.approx(other.atoms.get_potential_energy(), abs=1e-7)
    assert broken.info["step"] == 7
