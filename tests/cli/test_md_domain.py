"""`mlff md` and `run_md` outside the training data: one warning and a red report, or optionally a stop or silence."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write

from mlff_calc import MLFFCalculator, run_md
from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.cli.md import _say_how_it_ended
from mlff_calc.dynamics.domain import Outside
from mlff_calc.dynamics.run import RunResult
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.graph.domain import domain_of
from mlff_calc.potential import build_potential

BACKBONE = {"name": "equiformer", "channels": 4, "n_layers": 1, "l_max": 1, "cutoff": 4.0}
HOT = ("--ensemble", "langevin", "--temperature", 4000, "--friction", 50, "--traj-interval", 10)


def rattled(seed):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of potentials with weak forces, with and without the domain of rattled molecules; hot atoms fly apart."""
    made = tmp_path_factory.mktemp("potentials")
    potential = build_potential({"backbone": BACKBONE, "elements": ["H", "C", "O"], "scale": 0.02}, seed=0)
    potential.save(made / "unknown", card="# random")
    potential.domain = domain_of([rattled(seed) for seed in range(20)], 4.0)
    potential.save(made / "known", card="# random")
    return made


@pytest.fixture
def mlff(folder, tmp_path, monkeypatch, capsys, caplog):
    """Function that runs `mlff md` with a potential, and returns status, stdout, stderr and the warnings."""
    monkeypatch.chdir(tmp_path)

    def run(*words, potential="known"):
        caplog.clear()
        command = ["md", str(folder / potential), "--quiet", "--structure", "CH3CH2OH", "-o", "run", *map(str, words)]
        with caplog.at_level(logging.WARNING, "mlff_calc"):
            status = run_cli(build_app(), command)
        said = capsys.readouterr()
        return status, said.out, said.err, [one.getMessage() for one in caplog.records]

    return run


def test_a_torn_molecule_causes_one_warning_and_a_red_report(mlff, tmp_path):
    status, said, _, warned = mlff(*HOT, "--steps", 400)
    assert status == 0
    assert len(warned) == 1
    assert "outside of what the potential was trained on: " in warned[0]
    assert " Angstrom, the training data had " in warned[0]
    step = int(warned[0].split()[1])
    assert f"left the training data, first at step {step} (" in said
    assert "the last frame too" in said
    report = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert '<p class="bad">Outside the training data in ' in report
    assert "The last frame is outside." in report
    assert 'class="state good"' not in report
    assert mlff("--resume", "--steps", 401)[1].count(f"first at step {step} (") == 1  # parts of a run count as one run


def test_the_last_frame_is_checked(mlff):
    """The atoms leave the domain between two checks of the calculator."""
    words = ("--temperature", 20000, "--max-temperature", 1e6, "--steps", 8, "--skin", 4)
    status, said, _, warned = mlff(*words)
    assert (status, len(warned)) == (0, 1)
    assert "step 8 " in warned[0]
    assert "first at step 8" in said


def test_stop_saves_the_frame_and_the_run_can_be_resumed(mlff, tmp_path):
    status, said, error, warned = mlff(*HOT, "--steps", 400, "--domain", "stop")
    assert (status, said, warned) == (1, "", [])
    assert "outside of what the potential was trained on" in error
    assert "stopped.extxyz" in error
    stopped = read(tmp_path / "run/stopped.extxyz")
    assert 0 < stopped.info["step"] < 400
    assert '<p class="state bad">stopped at step' in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    status, _, _, warned = mlff("--resume", "--domain", "warn", "--steps", stopped.info["step"] + 30)
    assert (status, len(warned)) == (0, 1)


def test_a_start_outside_writes_nothing(mlff, tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.positions *= 1.6
    write(tmp_path / "far.extxyz", atoms)
    status, _, error, _ = mlff("--structure", tmp_path / "far.extxyz", "--steps", 2, "--domain", "stop")
    assert status == 1
    assert "not started, at step 0 already the structure is outside" in error
    assert "Label it and train on it, or start with domain = warn. Nothing was written" in error
    assert "saved frame" not in error
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_reports_it_as_well(folder, tmp_path):
    """The message about a signal includes earlier findings; reports count the checks of the last part."""
    outside = Outside(3, 19, "too far", 57, "farther")
    result = RunResult(tmp_path / "run", 60, 100, False, "SIGTERM", 1.0, outside)
    with pytest.raises(KeyboardInterrupt, match=r"first at step 19 \(too far\), the last time at step 57\. Do not rely"):
        _say_how_it_ended(result)
    result = RunResult(tmp_path / "run", 60, 100, False, "SIGTERM", 1.0)
    with pytest.raises(KeyboardInterrupt, match=r"Go on with the same command and --resume\.$"):
        _say_how_it_ended(result)


def test_a_check_uses_the_list_of_the_run(folder):
    """With NPT the cell changes in every step, so that the neighbour list fits only the structure of the run."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = calculator = MLFFCalculator(str(folder / "known"))
    atoms.get_potential_energy()
    atoms.set_cell([20.0, 20.0, 20.0])
    atoms.pbc = True
    atoms.get_potential_energy()
    looks = calculator.stats.n_looks
    calculator.look(atoms)
    assert calculator.stats.n_looks == looks + 1
    assert len(calculator._lists._entries) == 1


def test_off_and_files_that_do_not_know(mlff, tmp_path):
    for words, potential in ((("--domain", "off"), "known"), ((), "unknown")):
        status, said, _, warned = mlff(*HOT, "--steps", 60, "--overwrite", *words, potential=potential)
        assert (status, warned) == (0, [])
        assert said.startswith("60 steps done.")
        assert 'class="state good"' in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    status, _, error, _ = mlff("--steps", 2, "--domain", "stop", "--overwrite", potential="unknown")
    assert status == 1
    assert "domain = stop: this calculator does not know" in error


def test_the_shipped_ethanol_at_four_times_its_temperature(tmp_path, monkeypatch, capsys):
    """The potential was trained at 500 K; at 2000 K a hydrogen leaves within 200 steps."""
    monkeypatch.chdir(tmp_path)
    words = ("--ensemble", "langevin", "--temperature", "2000", "--seed", "1", "--steps", "1000", "--quiet")
    status = run_cli(build_app(), ["md", "ethanol", "--domain", "stop", *words])
    error = capsys.readouterr().err
    assert status == 1, error
    assert "outside of what the potential was trained on" in error
    assert (tmp_path / "md/stopped.extxyz").exists()


def test_run_md_does_what_the_command_does(folder, tmp_path, mlff):
    words = ("--ensemble", "langevin", "--temperature", 30, "--time", "5fs", "--traj-interval", "1fs", "--seed", 3)
    assert mlff(*words)[0] == 0
    result = run_md(
        molecule("CH3CH2OH"), str(folder / "known"), ensemble="langevin", temperature=30, time="5fs", seed=3,
        traj_interval="1fs", output=tmp_path / "python",
    )  # fmt: skip
    assert (result.step, result.completed, result.outside) == (10, True, None)
    here, there = (read(tmp_path / name / "trajectory.traj", ":") for name in ("python", "run"))
    assert len(here) == len(there) == 6
    np.testing.assert_array_equal(here[-1].positions, there[-1].positions)
    assert (tmp_path / "python/report.html").exists()


def test_run_md_with_a_calculator(folder, tmp_path):
    calculator = MLFFCalculator(str(folder / "known"))
    result = run_md(molecule("CH3CH2OH"), calculator, steps=4, output=tmp_path / "run")
    assert result.step == 4
    assert run_md(None, calculator, steps=6, resume=True, output=tmp_path / "run").step == 6
    for options, said in (
        ({"precision": "float64"}, "precision is set where the calculator is made"),
        ({"device": "cpu"}, "device is set where the calculator is made"),
        ({"trust": True}, "trust is set where the calculator is made"),
        ({"steps": 2, "time": "1fs"}, "steps and time both set the length of the run"),
        ({"friction": 3.0}, "friction does not act in the ensemble nve"),
        ({"domain": "halt"}, "domain = 'halt' is not known"),
    ):
        with pytest.raises(OptionError, match=said):
            run_md(molecule("CH3CH2OH"), calculator, output=tmp_path / "other", **options)
    with pytest.raises(OptionError, match="brings no example structure"):
        run_md(None, calculator, output=tmp_path / "other")
    with pytest.raises(OptionError, match="list of potentials is empty"):
        run_md("H2O", [], output=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def stretched():
    atoms = rattled(0)
    atoms.set_distance(0, 1, 2.4)
    return atoms


def test_a_complete_run_that_is_resumed_is_checked(mlff, tmp_path):
    write(tmp_path / "bad.xyz", stretched())
    words = ("--structure", "bad.xyz", "--steps", 2, "--ensemble", "nve", "--keep-velocities")
    assert mlff(*words, "--domain", "off")[3] == []
    warned = mlff("--structure", "bad.xyz", "--steps", 2, "--resume", "--domain", "warn")[3]
    assert len(warned) == 1
    assert "outside of what the potential was trained on: " in warned[0]


def test_a_given_calculator_keeps_its_own_choice(folder, tmp_path, caplog):
    with pytest.raises(SimulationError, match="outside of what the potential was trained on"):
        run_md(stretched(), MLFFCalculator(folder / "known", domain="stop"), output=tmp_path / "a", steps=2)
    with caplog.at_level(logging.WARNING, "mlff_calc"):  # a warning of the calculator would be an error here
        run_md(stretched(), MLFFCalculator(folder / "known"), output=tmp_path / "b", steps=2, domain="off")
    assert caplog.records == []
