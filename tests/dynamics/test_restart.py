"""A run that is stopped and resumed equals an uninterrupted run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.dynamics import ENSEMBLES, EnsembleOptions, MDRun, RunOptions, read_log
from mlff_calc.dynamics.state import load_state
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.potential import build_potential

EVERY = {"log_interval": 5, "traj_interval": 10}


def options(ensemble):
    return EnsembleOptions(ensemble=ensemble, timestep_fs=2.0, temperature_K=400.0, seed=3)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_a_restart_changes_no_bit(copper, tmp_path, same_run, ensemble):
    MDRun.start(copper(1), tmp_path / "whole", options(ensemble), RunOptions(steps=200, **EVERY)).run()
    MDRun.start(copper(1), tmp_path / "parts", options(ensemble), RunOptions(steps=100, **EVERY)).run()
    result = MDRun.resume(tmp_path / "parts", EMT(), steps=200).run()
    assert (result.step, result.completed, result.interrupted) == (200, True, None)
    same_run(tmp_path / "whole", tmp_path / "parts")
    assert len(read(tmp_path / "whole/trajectory.traj", ":")) == 21
    assert len(read_log(tmp_path / "whole/log.csv")["step"]) == 41


@pytest.mark.parametrize("ensemble", ["langevin", "bussi"])
def test_a_restart_off_the_grid_with_a_calculator_without_history(bonded, tmp_path, same_run, ensemble):
    """97 is no multiple of an interval, so the state saved at the end of a part is used."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = bonded(atoms)
    MDRun.start(atoms, tmp_path / "whole", options(ensemble), RunOptions(steps=200, **EVERY)).run()
    MDRun.start(atoms, tmp_path / "parts", options(ensemble), RunOptions(steps=97, **EVERY)).run()
    for steps in (98, 143, 200):
        MDRun.resume(tmp_path / "parts", bonded(atoms), steps=steps).run()
    same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("ensemble", ["nose-hoover", "bussi", "langevin"])
def test_a_molecule_that_starts_on_a_line_and_bends(bonded, tmp_path, same_run, ensemble):
    """Degrees of freedom are those of the start of the run, whatever its geometry is when it is resumed."""
    atoms = molecule("CO2")
    atoms.calc = bonded(atoms)
    MDRun.start(atoms, tmp_path / "whole", options(ensemble), RunOptions(steps=240, **EVERY)).run()
    MDRun.start(atoms, tmp_path / "parts", options(ensemble), RunOptions(steps=197, **EVERY)).run()
    MDRun.resume(tmp_path / "parts", bonded(atoms), steps=240).run()
    same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("ensemble", ["nose-hoover", "bussi", "nve"])
def test_the_saved_degrees_of_freedom_are_used(bonded, tmp_path, ensemble):
    """A run of a version that counted differently continues with the number from its start."""
    atoms = molecule("CO2")
    atoms.calc = bonded(atoms)
    folder = tmp_path / "run"
    MDRun.start(atoms, folder, options(ensemble), RunOptions(steps=20, **EVERY)).run()
    content = json.loads((folder / "state.json").read_text())
    assert content["n_free"] == 3
    (folder / "state.json").write_text(json.dumps({**content, "n_free": 4, "sha256": None}))
    run = MDRun.resume(folder, bonded(atoms), steps=40)
    run.run()
    table = read_log(folder / "log.csv")
    counted = 2.0 * table["kinetic_eV"] / (units.kB * table["temperature_K"])
    np.testing.assert_allclose(counted, np.where(table["step"] > 20, 4.0, 3.0), rtol=1e-12)
    if ensemble == "nose-hoover":
        assert run.dynamics._thermostat._num_atoms_global == 4 / 3
    if ensemble == "bussi":
        assert run.dynamics.ndof == 4


@pytest.mark.parametrize("ensemble", ["nose-hoover", "nve"])
def test_states_without_degrees_of_freedom_continue(bonded, tmp_path, same_run, ensemble):
    atoms = molecule("CO2")
    atoms.calc = bonded(atoms)
    MDRun.start(atoms, tmp_path / "whole", options(ensemble), RunOptions(steps=40, **EVERY)).run()
    MDRun.start(atoms, tmp_path / "parts", options(ensemble), RunOptions(steps=20, **EVERY)).run()
    content = json.loads((tmp_path / "parts/state.json").read_text())
    del content["n_free"], content["sha256"]
    (tmp_path / "parts/state.json").write_text(json.dumps(content))
    MDRun.resume(tmp_path / "parts", bonded(atoms), steps=40).run()
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_langevin_states_without_heat_continue_without_it(copper, tmp_path):
    folder = tmp_path / "run"
    MDRun.start(copper(1), folder, options("langevin"), RunOptions(steps=20, **EVERY)).run()
    content = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**content, "internals": {}, "sha256": None}))
    for steps in (40, 60):
        MDRun.resume(folder, EMT(), steps=steps).run()
    table = read_log(folder / "log.csv")
    assert (np.isnan(table["conserved_eV"]) == (table["step"] > 20)).all()
    assert np.isfinite(table["drift_meV_per_atom_ps"][1:]).all()


def test_a_potential_resumed_off_the_grid_changes_no_bit(tmp_path, same_run):
    """Parts of a run build neighbour lists at other steps than the whole run, without any effect on results."""
    backbone = {"name": "equiformer", "channels": 8, "n_layers": 1, "l_max": 1, "cutoff": 4.0}
    potential = build_potential({"backbone": backbone, "elements": ["Si"], "scale": 0.02}, seed=1)
    builds = []

    def calculator():
        builds.append(MLFFCalculator(potential, skin=0.3, device="cpu"))
        return builds[-1]

    atoms = bulk("Si", cubic=True)
    atoms.calc = calculator()
    how = EnsembleOptions(ensemble="nve", timestep_fs=2.0, temperature_K=900.0, seed=3)
    MDRun.start(atoms, tmp_path / "whole", how, RunOptions(steps=80, **EVERY)).run()
    atoms.calc = calculator()
    MDRun.start(atoms, tmp_path / "parts", how, RunOptions(steps=13, **EVERY)).run()
    for steps in (27, 51, 80):
        MDRun.resume(tmp_path / "parts", calculator(), steps=steps).run()
    same_run(tmp_path / "whole", tmp_path / "parts")
    assert 1 < builds[0].stats.n_rebuilds < sum(made.stats.n_rebuilds for made in builds[1:])


def test_the_state_of_a_calculator_is_restored(einstein, tmp_path):
    class Counting(einstein):
        calls = 0

        def calculate(self, *arguments, **more):
            super().calculate(*arguments, **more)
            self.calls += 1

        def get_state(self):
            return {"calls": self.calls}

        def set_state(self, state):
            self.calls = state["calls"]

    atoms = molecule("H2O")
    atoms.calc = Counting(atoms.positions)
    MDRun.start(atoms, tmp_path / "run", options("nve"), RunOptions(steps=20, **EVERY)).run()
    fresh = Counting(atoms.positions)
    MDRun.resume(tmp_path / "run", fresh, steps=20)
    assert fresh.calls == atoms.calc.calls == 21


def test_frames_after_the_last_state_are_written_again_and_not_twice(copper, tmp_path, same_run):
    """An older state with newer files, as after a kill, leads to the same run."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    MDRun.start(copper(1), whole, options("langevin"), RunOptions(steps=60, **EVERY)).run()
    MDRun.start(copper(1), killed, options("langevin"), RunOptions(steps=30, **EVERY)).run()
    old = (killed / "state.json").read_bytes()
    MDRun.resume(killed, EMT(), steps=50).run()
    (killed / "state.json").write_bytes(old)
    with (killed / "log.csv").open("a") as log:
        log.write("55,0.1,3")
    with (killed / "trajectory.traj").open("ab") as trajectory:
        trajectory.write(b"half a frame")
    MDRun.resume(killed, EMT(), steps=60).run()
    same_run(whole, killed)


@pytest.mark.parametrize("damage", ["empty", "half", "trajectory"])
def test_a_power_cut_falls_back_to_the_synced_state(copper, tmp_path, same_run, damage):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    MDRun.start(copper(1), whole, options("nve"), RunOptions(steps=40, **EVERY)).run()
    MDRun.start(copper(1), cut, options("nve"), RunOptions(steps=20, **EVERY)).run()
    synced = (cut / "state.synced.json").read_bytes()
    files = {name: (cut / name).read_bytes() for name in ("trajectory.traj", "log.csv")}
    MDRun.resume(cut, EMT(), steps=30).run()
    (cut / "state.synced.json").write_bytes(synced)
    if damage == "trajectory":
        for name, content in files.items():
            (cut / name).write_bytes(content)
    else:
        state = (cut / "state.json").read_bytes()
        (cut / "state.json").write_bytes(state[: len(state) // 2] if damage == "half" else b"")
    run = MDRun.resume(cut, EMT(), steps=40)
    assert run.state.step == 20
    run.run()
    same_run(whole, cut)


def test_without_its_state_a_run_continues_from_the_synced_one(copper, tmp_path, same_run, caplog):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    MDRun.start(copper(1), whole, options("langevin"), RunOptions(steps=30, **EVERY)).run()
    MDRun.start(copper(1), parts, options("langevin"), RunOptions(steps=20, **EVERY)).run()
    (parts / "state.json").unlink()
    with pytest.raises(OptionError, match="holds a run already"):
        MDRun.start(copper(1), parts, options("langevin"), RunOptions(steps=3, **EVERY))
    MDRun.resume(parts, EMT(), steps=30).run()
    same_run(whole, parts)
    assert "state.json is missing; going on from state.synced.json at step 20" in caplog.text


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of the files of a run, but only the existence of the lock, in which each access notes its time."""
    return {path.name: b"" if path.name == ".lock" else path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("left", ["everything", "trajectory.traj", "log.csv", "report.html"])
def test_files_without_any_state_are_left_alone(copper, tmp_path, left):
    folder = tmp_path / "run"
    MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=12, **EVERY)).run()
    (folder / "report.html").write_text("a report")
    for path in folder.iterdir():
        if path.name.startswith("state") or (left not in ("everything", path.name) and path.name != ".lock"):
            path.unlink()
    before = contents(folder)
    assert ".lock" in before
    with pytest.raises(OptionError, match=r"no saved state to go on from.*--overwrite"):
        MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=3, **EVERY))
    with pytest.raises(SimulationError, match=r"no state\.json"):
        MDRun.resume(folder, EMT())
    assert contents(folder) == before
    MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=3, **EVERY), overwrite=True).run()
    assert load_state(folder / "state.json").step == 3


@pytest.mark.parametrize("frames", [0, 1])
def test_a_run_killed_before_its_first_state_may_be_replaced(copper, tmp_path, frames):
    folder = tmp_path / "run"
    MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=0, **EVERY)).run()
    for path in folder.glob("state*"):
        path.unlink()
    if frames == 0:
        (folder / "trajectory.traj").write_bytes(b"")
    MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=3, **EVERY)).run()
    assert load_state(folder / "state.json").step == 3


def test_constraints_masses_and_info_survive(copper, tmp_path, same_run):
    def start(folder, steps):
        atoms = copper(1)
        atoms.set_constraint(FixAtoms([0, 3]))
        atoms.set_masses(np.linspace(50.0, 70.0, len(atoms)))
        atoms.info.update(source="test", numbers=[1, 2], thing=object())
        MDRun.start(atoms, folder, options("langevin"), RunOptions(steps=steps, **EVERY)).run()

    with pytest.warns(UserWarning, match="thing"):
        start(tmp_path / "whole", 40)
    with pytest.warns(UserWarning, match="thing"):
        start(tmp_path / "parts", 20)
    MDRun.resume(tmp_path / "parts", EMT(), steps=40).run()
    same_run(tmp_path / "whole", tmp_path / "parts")
    state = load_state(tmp_path / "parts" / "state.json")
    assert state.atoms.info == {"source": "test", "numbers": [1, 2]}
    assert list(state.atoms.constraints[0].index) == [0, 3]
    np.testing.assert_array_equal(state.atoms.get_masses(), np.linspace(50.0, 70.0, 4))


def test_incomplete_files_of_a_killed_process_are_removed(copper, tmp_path):
    MDRun.start(copper(1), tmp_path, options("nve"), RunOptions(steps=2, **EVERY)).run()
    for name in (".state.json.12.tmp", ".report.html.7.tmp", ".mine.1.tmp"):
        (tmp_path / name).touch()
    MDRun.resume(tmp_path, EMT(), steps=3).run()
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [".mine.1.tmp"]


def test_steps_are_counted_from_the_start_of_the_run(copper, tmp_path):
    folder = tmp_path / "run"
    assert MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=20, **EVERY)).run().step == 20
    before = (folder / "log.csv").read_bytes()
    assert MDRun.resume(folder, EMT()).run().step == 20  # the run is complete
    assert (folder / "log.csv").read_bytes() == before
    assert MDRun.resume(folder, EMT(), steps=25).run().step == 25
    with pytest.raises(OptionError, match=r"steps = 10.*25"):
        MDRun.resume(folder, EMT(), steps=10)


def test_a_folder_with_a_run_is_left_alone(copper, tmp_path):
    folder = tmp_path / "run"
    MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=5, **EVERY)).run()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OptionError, match="--resume"):
        MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=5, **EVERY))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=3, **EVERY), overwrite=True).run()
    assert load_state(folder / "state.json").step == 3


def test_files_of_others_are_left_alone(copper, tmp_path):
    (tmp_path / "log.csv").write_text("mine")
    with pytest.raises(OptionError, match=r"log\.csv"):
        MDRun.start(copper(1), tmp_path, options("nve"), RunOptions(steps=5, **EVERY))
    assert (tmp_path / "log.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "changed",
    [{"temperature_K": 500.0}, {"ensemble": "bussi"}, {"log_interval": 7}, {"potential": "other"}, {"seed": 4}],
)
def test_changed_options_are_refused_by_name(copper, tmp_path, changed):
    MDRun.start(copper(1), tmp_path / "run", options("nve"), RunOptions(steps=5, **EVERY)).run()
    with pytest.raises(OptionError, match=next(iter(changed))) as caught:
        MDRun.resume(tmp_path / "run", EMT(), **changed)
    assert "another folder" in str(caught.value)
    with pytest.raises(OptionError, match="not an option"):
        MDRun.resume(tmp_path / "run", EMT(), temprature=3)


def test_folders_without_a_run_and_states_of_other_versions(copper, tmp_path):
    with pytest.raises(SimulationError, match=r"no state\.json"):
        MDRun.resume(tmp_path, EMT())
    folder = tmp_path / "run"
    MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=5, **EVERY)).run()
    content = json.loads((folder / "state.json").read_text())
    (folder / "state.synced.json").unlink()
    (folder / "state.json").write_text(json.dumps({**content, "format_version": 99}))
    with pytest.raises(SimulationError, match="format version 99"):
        MDRun.resume(folder, EMT())
    (folder / "state.json").write_text("{")
    with pytest.raises(SimulationError, match="not a saved state"):
        MDRun.resume(folder, EMT())


def test_a_second_process_in_the_same_folder_is_refused(copper, tmp_path):
    from mlff_calc.locks import folder_lock

    folder = tmp_path / "run"
    MDRun.start(copper(1), folder, options("nve"), RunOptions(steps=5, **EVERY)).run()
    with folder_lock(folder), pytest.raises(SimulationError, match="another process"):
        MDRun.resume(folder, EMT(), steps=9).run()


def test_the_structure_given_is_not_changed(copper, tmp_path):
    atoms = copper(1)
    before = atoms.positions.copy()
    MDRun.start(atoms, tmp_path / "run", options("nve"), RunOptions(steps=5, **EVERY)).run()
    np.testing.assert_array_equal(atoms.positions, before)
    assert not atoms.has("momenta")
    assert "step" not in atoms.info


def test_velocities_of_the_structure_can_be_kept(copper, tmp_path):
    atoms = copper(1)
    momenta = np.random.default_rng(0).integers(-9, 9, (4, 3)) * 0.0625
    momenta[3] = -momenta[:3].sum(axis=0)  # exactly no net momentum
    atoms.set_momenta(momenta)
    MDRun.start(atoms, tmp_path / "run", options("nve"), RunOptions(steps=1, velocities="keep", **EVERY)).run()
    np.testing.assert_array_equal(read(tmp_path / "run/trajectory.traj", 0).get_momenta(), momenta)
