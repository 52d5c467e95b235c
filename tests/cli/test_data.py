"""`mlff data` on the command line."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.io import read, write

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.datasets import read_structures
from mlff_calc.datasets.motion import read_motion, trajectories
from mlff_calc.dynamics import MDRun
from mlff_calc.errors import SimulationError
from mlff_calc.locks import folder_lock

from ..children import Child

KCAL = units.kcal / units.mol
ETHANOL = ("trajectory", "CH3CH2OH", "--calculator", "ethanol", "--device", "cpu")


@pytest.fixture
def mlff(tmp_path, monkeypatch, capsys):
    """Function that runs `mlff data` in this process in a new folder, and returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        status = run_cli(build_app(), ["data", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


SMALL = ("nbody", "--train", 4, "--valid", 2, "--test", 3)


def test_nbody_systems(mlff, tmp_path):
    status, said, progress = mlff(*SMALL, "--protocol", "hegnn", "--bodies", 6, "-o", "six.npz")
    assert (status, "9 trajectories of 6 bodies are in six.npz" in said) == (0, True)
    assert "trajectories" in progress
    arrays = dict(np.load("six.npz"))
    assert arrays["positions"].shape == arrays["velocities"].shape == (9, 51, 6, 3)
    assert arrays["positions"].dtype == np.float32
    assert arrays["split"].tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert (str(arrays["protocol"]), int(arrays["seed"]), float(arrays["frame_interval"])) == ("hegnn", 43, 0.1)
    assert [len(read_motion("six.npz", part=part)) for part in ("train", "valid", "test")] == [4, 2, 3]
    assert read_motion("six.npz", part="train")[0].horizon == pytest.approx(1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["six.npz"]


def test_frames_that_are_kept_are_those_of_the_whole_file(mlff):
    assert mlff(*SMALL, "--frames", "3,5", "-o", "few.npz", "-q") == (
        0,
        "9 trajectories of 5 bodies are in few.npz.\n",
        "",
    )
    assert mlff(*SMALL, "--precision", "float64", "-o", "all.npz", "-q")[0] == 0
    few, every = np.load("few.npz"), np.load("all.npz")
    assert few["frames"].tolist() == [3, 5]
    np.testing.assert_array_equal(few["positions"], every["positions"][:, [3, 5]].astype(np.float32))
    assert mlff(*SMALL, "--frames", "3,5", "--seed", 44, "-o", "other.npz", "-q")[0] == 0
    assert not np.isclose(np.load("other.npz")["positions"], few["positions"]).any()


def test_a_file_is_replaced_only_when_asked(mlff, tmp_path):
    assert mlff(*SMALL, "--frames", "1", "-o", "a/b.npz", "-q")[0] == 0
    before = (tmp_path / "a/b.npz").read_bytes()
    status, _, said = mlff(*SMALL, "--frames", "2", "-o", "a/b.npz")
    assert (status, "there already" in said, "--overwrite" in said) == (1, True, True)
    assert (tmp_path / "a/b.npz").read_bytes() == before
    assert mlff(*SMALL, "--frames", "2", "-o", "a/b.npz", "--overwrite", "-q")[0] == 0
    assert np.load("a/b.npz")["frames"].tolist() == [2]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.npz"]


@pytest.mark.parametrize(
    ("words", "status", "named"),
    [
        (("nbody", "-o", "a.txt"), 1, "ends in .npz"),
        (("nbody", "-o", "."), 1, ".npz"),
        (("nbody", "-o", "a.npz", "--bodies", "1"), 2, "--bodies"),
        (("nbody", "-o", "a.npz", "--protocol", "nri"), 2, "nri"),
        (("nbody", "-o", "a.npz", "--frames", "30-40"), 1, "--frames 30-40"),
        (("nbody", "-o", "a.npz", "--frames", "40,30"), 1, "rise"),
        (("nbody", "-o", "a.npz", "--train", "0", "--valid", "0", "--test", "0"), 1, "nothing to make"),
        (("nbody",), 2, "--output"),
        ((*ETHANOL, "--steps", "5", "-o", "a.npz", "--resume", "--overwrite"), 1, "--resume continues"),
        ((*ETHANOL, "--steps", "5", "-o", "a.npz", "--timestep", "-1"), 1, "timestep_fs = -1.0"),
        (("trajectory", "none.xyz", "--calculator", "ethanol", "--steps", "5", "-o", "a.npz"), 1, "none.xyz"),
        (("trajectory", "NH3", "--calculator", "ethanol", "--steps", "5", "-o", "a.npz"), 1, "N"),
        (("trajectory", "CH3CH2OH", "--calculator", "ethanl", "--steps", "5", "-o", "a.npz"), 1, "ethanl"),
    ],
)
def test_bad_input_gives_one_message_and_writes_nothing(mlff, tmp_path, words, status, named):
    found, _, said = mlff(*words)
    assert found == status
    assert named in said
    assert said.count("error:") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_trajectory_in_the_layout_of_md17(mlff):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.02, seed=1)
    write("start.xyz", atoms)
    assert (
        mlff("trajectory", "start.xyz", *ETHANOL[2:], "--steps", 60, "-o", "ethanol.npz", "-q", "--friction", 1e-6)[0]
        == 0
    )
    arrays = dict(np.load("ethanol.npz"))
    assert arrays["R"].shape == arrays["V"].shape == arrays["F"].shape == (61, 9, 3)
    assert arrays["E"].shape == (61, 1)
    assert {arrays[name].dtype for name in "RVEF"} == {np.dtype(np.float64)}
    np.testing.assert_allclose(arrays["R"][0], atoms.positions, atol=1e-6)
    assert [str(arrays[name]) for name in ("r_unit", "v_unit", "e_unit")] == ["Angstrom", "Angstrom/fs", "kcal/mol"]
    assert str(arrays["theory"]).startswith("ethanol ")
    atoms.calc = MLFFCalculator("ethanol", device="cpu")
    atoms.positions = arrays["R"][40]
    assert arrays["E"][40, 0] * KCAL == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(arrays["F"][40] * KCAL, atoms.get_forces(), atol=1e-5)
    step, masses = float(arrays["timestep_fs"]), atoms.get_masses()[:, None]
    pushed = arrays["F"] * KCAL / masses * units.fs**2  # Angstrom/fs^2
    after = arrays["R"] + step * arrays["V"] + 0.5 * step**2 * pushed  # velocity Verlet, from frame to frame
    np.testing.assert_allclose(after[:-1], arrays["R"][1:], atol=1e-5)
    assert np.abs(arrays["R"][1:] - arrays["R"][:-1]).max() > 1e-2
    moving = 0.5 * float((atoms.get_masses()[:, None] * (arrays["V"][0] / units.fs) ** 2).sum())
    assert moving == pytest.approx(1.5 * 9 * units.kB * 500.0, rel=1e-6)
    pairs = read_motion("ethanol.npz", part="train", horizon=10)
    assert pairs[0].kinds.tolist() == [6, 6, 8]
    sample = read_structures("ethanol.npz")[40]
    np.testing.assert_allclose(sample.forces, arrays["F"][40] * KCAL, atol=1e-12)


def test_going_on_is_only_for_the_same_run(mlff):
    assert mlff(*ETHANOL, "--steps", 10, "-o", "e.npz", "-q")[0] == 0
    first = np.load("e.npz")["R"]
    for words, named in (
        (("--steps", 10), "--overwrite"),
        (("--steps", 20, "--resume", "--temperature", 300), "--temperature = 300.0 differs from 500.0"),
        (("--steps", 20, "--resume", "--seed", 1), "--seed = 1"),
        (("--steps", 5, "--resume"), "steps = 5: this run has made 10"),
    ):
        status, _, said = mlff(*ETHANOL, *words, "-o", "e.npz", "-q")
        assert (status, named in said) == (1, True)
    status, _, said = mlff("trajectory", "CH4", *ETHANOL[2:], "--steps", 20, "--resume", "-o", "e.npz", "-q")
    assert (status, "STRUCTURE CH4" in said) == (1, True)
    np.testing.assert_array_equal(np.load("e.npz")["R"], first)
    assert mlff(*ETHANOL, "--steps", 20, "-o", "e.npz", "--resume", "-q")[0] == 0
    assert mlff(*ETHANOL, "--steps", 20, "-o", "whole.npz", "-q")[0] == 0
    longer, whole = np.load("e.npz"), np.load("whole.npz")
    for name in whole:
        np.testing.assert_array_equal(longer[name], whole[name])
    np.testing.assert_array_equal(longer["R"][:11], first)


def killed_after(path: Path, size: int, process: Child) -> None:
    """Kill a command when a file of its run has reached a size."""
    deadline = time.monotonic() + 300
    while not (path.exists() and path.stat().st_size > size):
        assert process.poll() is None, process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_trajectory_continues_without_loss(mlff, child, tmp_path):
    words = (*ETHANOL, "--steps", 120, "-q", "-o")
    assert mlff(*words, "whole.npz")[0] == 0
    going = child("data", *words, tmp_path / "parts.npz", "--resume")
    killed_after(tmp_path / "parts.run/trajectory.traj", 40_000, going)
    assert not (tmp_path / "parts.npz").exists()
    made = len(read(tmp_path / "parts.run/trajectory.traj", ":"))
    assert 30 < made < 120
    assert mlff(*words, "parts.npz", "--resume")[0] == 0
    parts, one = np.load(tmp_path / "parts.npz"), np.load(tmp_path / "whole.npz")
    assert len(parts["R"]) == 121
    for name in one:
        np.testing.assert_array_equal(parts[name], one[name])


def test_an_interrupted_trajectory_tells_how_to_continue(child, tmp_path):
    process = child("data", *ETHANOL, "--steps", 100_000, "-q", "-o", tmp_path / "long.npz")
    while not (tmp_path / "long.run/state.json").exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130
    assert "Go on with the same command and --resume" in process.stderr
    assert not (tmp_path / "long.npz").exists()


@pytest.mark.electronic
def test_gfn2_xtb(mlff):
    pytest.importorskip("tblite")
    assert mlff("trajectory", "H2O", "--steps", 5, "-o", "water.npz", "-q")[0] == 0
    arrays = np.load("water.npz")
    assert str(arrays["theory"]) == "gfn2-xtb"
    assert arrays["E"][0, 0] * KCAL == pytest.approx(-5.07 * units.Hartree, rel=0.002)
    step = 0.001
    moved = molecule("H2O")
    from mlff_calc.datasets.motion.trajectories import xtb_calculator

    moved.calc = xtb_calculator()
    energies = []
    for sign in (1, -1):
        moved.positions = arrays["R"][3]
        moved.positions[0, 2] += sign * step
        energies.append(moved.get_potential_energy())
    assert arrays["F"][3, 0, 2] * KCAL == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-3)


def test_a_missing_tblite_is_told_before_anything_is_written(mlff, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    status, _, said = mlff("trajectory", "H2O", "--steps", 5, "-o", "water.npz")
    assert (status, "pip install 'mlff_calc[xtb]'" in said) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_written_during_the_run_is_left_alone(mlff, tmp_path, monkeypatch):
    run = MDRun.run

    def run_and_meet(self, *arguments, **options):
        (tmp_path / "e.npz").write_text("of another program")
        return run(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MDRun, "run", run_and_meet)
        status, _, said = mlff(*ETHANOL, "--steps", 3, "-q", "-o", "e.npz")
    assert status == 1
    assert "e.npz was written by another program during the run" in said
    assert (tmp_path / "e.npz").read_text() == "of another program"
    (tmp_path / "e.npz").unlink()
    assert mlff(*ETHANOL, "--steps", 3, "-q", "-o", "e.npz", "--resume")[0] == 0
    assert len(np.load(tmp_path / "e.npz")["R"]) == 4


def test_a_trajectory_without_its_state_continues_from_the_synced_one(mlff, tmp_path):
    words = (*ETHANOL, "-q", "-o", "e.npz", "--resume")
    assert mlff(*words, "--steps", 6)[0] == 0
    (tmp_path / "e.run/state.json").unlink()
    assert mlff(*words, "--steps", 9)[0] == 0
    assert len(np.load(tmp_path / "e.npz")["R"]) == 10
    for path in (tmp_path / "e.run").glob("state*"):
        path.unlink()
    (tmp_path / "e.npz").unlink()
    before = (tmp_path / "e.run/trajectory.traj").read_bytes()
    status, _, said = mlff(*words, "--steps", 9)
    assert status == 1
    assert "no saved state to go on from" in said
    assert (tmp_path / "e.run/trajectory.traj").read_bytes() == before


def test_the_folder_is_held_until_the_file_is_written(mlff, tmp_path, monkeypatch):
    made = trajectories.arrays_of_run
    refused = []

    def meet(path, **how):
        with pytest.raises(SimulationError, match="another process is running") as caught, folder_lock(path.parent):
            pass
        refused.append(caught.value)
        return made(path, **how)

    monkeypatch.setattr(trajectories, "arrays_of_run", meet)
    assert mlff(*ETHANOL, "--steps", 3, "-q", "-o", "e.npz")[0] == 0
    assert len(refused) == 1
