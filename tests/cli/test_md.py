"""`mlff md` on the command line."""

from __future__ import annotations

import csv
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io import read, write

from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.potential import build_potential

BACKBONE = {"name": "equiformer", "channels": 8, "n_layers": 1, "l_max": 1, "cutoff": 4.0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Folder of two potentials with random weights of small scale, one with an example structure, and of a crystal."""
    folder = tmp_path_factory.mktemp("potentials")
    for seed, name in enumerate(("one", "two")):
        config = {"backbone": BACKBONE, "elements": ["H", "C", "O", "Si"], "scale": 0.02}
        build_potential(config, seed=seed).save(folder / name, card="# random", recipe="")
    write(folder / "one" / "example.extxyz", molecule("CH3CH2OH"))
    write(folder / "si.extxyz", bulk("Si", cubic=True))
    return folder


@pytest.fixture
def mlff(folders, tmp_path, monkeypatch, capsys):
    """Function that runs `mlff md` with potential one in this process, and returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, potential: str = "one"):
        named = ",".join(str(folders / name) for name in potential.split(","))
        status = run_cli(build_app(), ["md", named, "--quiet", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def frames(folder: Path) -> list:
    return read(folder / "trajectory.traj", ":")


def test_a_run_its_files_and_going_on(mlff, tmp_path):
    status, said, _ = mlff("--time", "10fs", "--traj-interval", "2fs", "--log-interval", "2", "-o", "run")
    assert status == 0
    assert "run/report.html" in said
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {
        "trajectory.traj", "log.csv", "state.json", "energies.png", "report.html",
    }  # fmt: skip
    assert [atoms.info["step"] for atoms in frames(tmp_path / "run")] == [0, 4, 8, 12, 16, 20]
    with (tmp_path / "run/log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(0, 21, 2))
    assert float(rows[0]["temperature_K"]) == pytest.approx(300.0)
    assert mlff("--time", "20fs", "-o", "run", "--resume")[0] == 0
    assert [atoms.info["step"] for atoms in frames(tmp_path / "run")] == list(range(0, 41, 4))


def test_a_resumed_run_is_the_one_that_was_not_interrupted(mlff, folders, tmp_path):
    common = ("--ensemble", "langevin", "--temperature", 500, "--structure", folders / "si.extxyz", "--seed", 4,
              "--timestep", "2fs", "--traj-interval", 5, "--log-interval", 5)  # fmt: skip
    assert mlff(*common, "--steps", 40, "-o", "whole")[0] == 0
    assert mlff(*common, "--steps", 20, "-o", "parts")[0] == 0
    assert mlff(*common, "--steps", 40, "-o", "parts", "--resume")[0] == 0
    whole, parts = frames(tmp_path / "whole"), frames(tmp_path / "parts")
    assert len(whole) == len(parts) == 9
    for atoms, twin in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(atoms.positions, twin.positions)
        np.testing.assert_array_equal(atoms.get_momenta(), twin.get_momenta())


def test_resume_starts_a_run_where_there_is_none(mlff, tmp_path):
    assert mlff("--steps", 2, "-o", "new", "--resume")[0] == 0
    assert len(frames(tmp_path / "new")) == 1


def test_resume_without_the_state_loses_no_frame(mlff, tmp_path):
    every = ("--traj-interval", 1, "--log-interval", 1, "-o", "run")
    assert mlff("--steps", 12, *every)[0] == 0
    (tmp_path / "run/state.json").unlink()
    status, _, said = mlff("--steps", 3, *every, "--resume")
    assert status == 1
    assert "12" in said
    assert len(frames(tmp_path / "run")) == 13
    assert mlff("--steps", 15, *every, "--resume")[0] == 0
    assert [atoms.info["step"] for atoms in frames(tmp_path / "run")] == list(range(16))
    for path in (tmp_path / "run").glob("state*"):
        path.unlink()

    def content():  # without the lock, which contains the time of the last access
        return {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != ".lock"}

    before = content()
    for more in ((), ("--resume",)):
        status, _, said = mlff("--steps", 3, *every, *more)
        assert status == 1
        assert "no saved state to go on from (state.json or state.synced.json)" in said
        assert said.count("mlff: error:") == 1
    assert content() == before


@pytest.mark.parametrize("ensemble", ["bussi", "nose-hoover", "npt-iso", "npt"])
def test_every_ensemble_runs(mlff, folders, tmp_path, ensemble):
    words = ("--ensemble", ensemble, "--structure", folders / "si.extxyz", "--taut", "50fs")
    words += ("--pressure", "1bar", "--taup", "0.5ps") if ensemble.startswith("npt") else ()
    assert mlff(*words, "--steps", 3, "-o", "run")[0] == 0
    assert len(frames(tmp_path / "run")) == 1


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("--friction", 5), "--friction does not act in the ensemble nve. Leave it out, or choose --ensemble langevin."),
        (("--ensemble", "langevin", "--taut", "50fs"), "choose --ensemble bussi or nose-hoover or npt-iso or npt."),
        (("--ensemble", "bussi", "--pressure", "1bar"), "choose --ensemble npt-iso or npt."),
        (("--taup", "1ps"), "--taup (fs) does not act in the ensemble nve."),
    ],
)
def test_an_option_that_would_not_act_is_refused(mlff, tmp_path, words, cure):
    status, _, said = mlff(*words, "--steps", 3, "-o", "run")
    assert status == 1
    assert cure in " ".join(said.split())
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_refused_and_overwritten_only_when_asked(mlff, tmp_path):
    mlff("--steps", 3, "-o", "run")
    before = (tmp_path / "run/state.json").read_bytes()
    status, _, said = mlff("--steps", 5, "-o", "run")
    assert status == 1
    assert "--resume" in said
    assert "--overwrite" in said
    assert (tmp_path / "run/state.json").read_bytes() == before
    everything = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert mlff("--steps", 5, "-o", "run", "--overwrite", "--max-temperature", "100")[0] == 1
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == everything
    assert mlff("--steps", 5, "-o", "run", "--overwrite")[0] == 0


def test_changed_options_are_named_as_they_are_typed(mlff):
    mlff("--steps", 3, "-o", "run")
    for words, named in (
        (("--temperature", "200"), "--temperature = 200.0 differs from 300.0"),
        (("--timestep", "1fs"), "--timestep (fs) = 1.0"),
        (("--precision", "float64"), "--precision"),
        (("--structure", "H2O"), "--structure H2O is H2O"),
    ):
        status, _, said = mlff("--steps", 5, "-o", "run", "--resume", *words)
        assert status == 1
        assert named in said
    moved = molecule("CH3CH2OH")
    moved.positions[0, 0] += 0.01
    write("moved.extxyz", moved)
    status, _, said = mlff("--steps", 5, "-o", "run", "--resume", "--structure", "moved.extxyz")
    assert (status, "other positions" in said) == (1, True)
    write("same.extxyz", molecule("CH3CH2OH"))
    assert mlff("--steps", 4, "-o", "run", "--resume", "--structure", "same.extxyz")[0] == 0
    status, _, said = mlff("--steps", 5, "-o", "run", "--resume", potential="two")
    assert status == 1
    assert "potential = 'two" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--time", "2"), "--time: the unit is missing"),
        (("--time", "0.1fs"), "--time 0.1fs is less than one step of 0.5 fs"),
        (("--structure", "NH3", "--overwrite"), "N"),
        (("--max-temperature", "100"), "limit of 100 K"),
        (("--time", "2ps", "--steps", "4"), "--steps and --time"),
        (("--resume", "--overwrite"), "--resume"),
        (("--structure", "no.xyz"), "no.xyz"),
        (("--structure", "CH3CH2OHH"), "Did you mean CH3CH2OH"),
        (("--structure", "SiH4", "--ensemble", "npt"), "pbc"),
        (("--structure", "NH3"), "N"),
        (("--pressure", "1psi"), "--pressure"),
        (("--timestep", "-1"), "timestep_fs"),
        (("--threshold", "0.1"), "forces_std"),
    ],
)
def test_bad_input_gives_one_message_and_writes_no_run(mlff, tmp_path, words, named):
    length = () if {"--time", "--steps"} & set(words) else ("--steps", 3)
    status, _, said = mlff(*words, *length, "-o", "run")
    assert status == 1
    assert named in said
    assert said.count("error") == 1
    assert not (tmp_path / "run").exists()


def test_a_potential_without_an_example_needs_a_structure(mlff):
    status, _, said = mlff("--steps", 3, potential="two")
    assert status == 1
    assert "--structure" in said


def test_a_committee_runs_and_stops_beyond_its_threshold(mlff, tmp_path):
    assert mlff("--steps", 3, "-o", "run", "--threshold", 1e3, potential="one,two")[0] == 0
    status, _, said = mlff("--steps", 3, "-o", "bad", "--threshold", 1e-6, potential="one,two")
    assert status == 1
    assert "not started" in said
    assert "threshold of 1e-06" in said
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("one,", "POTENTIAL 'one,': member 2 of this committee has no name"),
        (",one", "member 1 of this committee has no name. Name it, or remove the comma: one"),
        ("one, ,two", "remove the comma: one,two"),
        ("", "POTENTIAL '' names no potential"),
        (",", "POTENTIAL ',' names no potential"),
    ],
)
def test_a_member_without_a_name_is_refused(folders, monkeypatch, capsys, named, said):
    monkeypatch.chdir(folders)
    before = sorted(folders.iterdir())
    assert run_cli(build_app(), ["md", named, "--steps", "2"]) == 1
    assert said in capsys.readouterr().err
    assert sorted(folders.iterdir()) == before


def test_an_explosion_is_a_failure_with_frame_and_report(mlff, tmp_path):
    words = ("--ensemble", "langevin", "--temperature", 300, "--max-temperature", 320)
    status, _, said = mlff("--steps", 2000, "-o", "run", "--log-interval", 2, *words)
    assert status == 1
    assert "max_temperature_K" in said
    assert (tmp_path / "run/stopped.extxyz").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_tells_how_to_continue_and_exits_with_130(folders, tmp_path, child, number):
    words = ["md", folders / "one", "-o", tmp_path / "run", "--time", "1ns", "--traj-interval", 5, "--log-interval", 1]
    process = child(*words)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/state.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(number)
    process.wait(60)
    said, errors = process.stdout, process.stderr
    assert process.returncode == 130, errors
    assert "--resume" in errors
    assert number.name in errors
    assert "Traceback" not in errors
    assert "E_tot/eV" in said
    assert (tmp_path / "run/report.html").exists()
    assert len(frames(tmp_path / "run")) >= 1
