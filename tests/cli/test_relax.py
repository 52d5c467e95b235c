"""`mlff relax` on the command line: files, messages, exit statuses."""

from __future__ import annotations

import errno
import resource
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write

from mlff_calc import MLFFCalculator
from mlff_calc.cli import relax
from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.graph.domain import domain_of
from mlff_calc.locks import output_lock
from mlff_calc.potential import build_potential, load_potential


@pytest.fixture(scope="module")
def potentials(tmp_path_factory) -> Path:
    """Folder of weak potentials with random weights and repulsion, for which relaxations are fast."""
    folder = tmp_path_factory.mktemp("potentials")
    backbone = {"name": "equiformer", "channels": 8, "n_layers": 1, "cutoff": 4.0}
    common = {"backbone": backbone, "scale": 0.1, "repulsion": {"name": "zbl"}}
    build_potential({**common, "elements": ["H", "C", "O"]}, seed=0).save(folder / "organic")
    build_potential({**common, "elements": ["Si"]}, seed=0).save(folder / "si")
    return folder


@pytest.fixture
def work(tmp_path) -> Path:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    write(tmp_path / "ethanol.xyz", atoms)
    return tmp_path


@pytest.fixture
def relaxed(mlff, tmp_path):
    """Function that runs `mlff relax` in the folder of the test; `largest_file` limits the size of files, bytes."""

    def run(*words: object, largest_file: int | None = None) -> subprocess.CompletedProcess:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file or before[0], before[1]))
        try:
            return mlff("relax", *words, cwd=tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return run


def test_a_formula_that_was_not_in_the_training_data_is_told(potentials, work, relaxed):
    potential = load_potential(potentials / "organic")
    for name, frames in (("knows", [read(work / "ethanol.xyz")]), ("knows_not", [molecule("CH3OH")])):
        potential.domain = {"formulas": domain_of(frames, potential.cutoff)["formulas"], "cutoff": 4.0, "nearest": {}}
        potential.save(work / name)
        done = relaxed(work / name, "ethanol.xyz", "--fmax", "9", "--overwrite")
        assert done.returncode == 0, done.stderr
        assert ("formula C2H6O was not in the training data, which had CH4O" in done.stderr) == (name == "knows_not")


def test_relaxes_and_writes_structure_and_trajectory(potentials, work, relaxed):
    done = relaxed(potentials / "organic", "ethanol.xyz", "--fmax", "0.005")
    assert done.returncode == 0, done.stderr
    assert "converged" in done.stdout
    assert sorted(path.name for path in work.iterdir()) == [
        "ethanol.xyz",
        "ethanol_relaxed.extxyz",
        "ethanol_relaxed.traj",
    ]
    found, steps = read(work / "ethanol_relaxed.extxyz"), read(work / "ethanol_relaxed.traj", index=":")
    assert np.linalg.norm(found.get_forces(), axis=1).max() <= 0.005
    assert len(steps) > 2
    assert steps[-1].get_potential_energy() < steps[0].get_potential_energy()
    assert np.allclose(steps[-1].positions, found.positions, atol=1e-6)
    assert np.allclose(steps[0].positions, read(work / "ethanol.xyz").positions)


def test_cell_under_pressure(potentials, tmp_path, relaxed):
    write(tmp_path / "si.cif", bulk("Si", "diamond", a=5.2))
    done = relaxed(potentials / "si", "si.cif", "--cell", "--pressure", "2.0", "--fmax", "0.002", "-o", "out.vasp")
    assert done.returncode == 0, done.stderr
    atoms = read(tmp_path / "out.vasp")
    assert atoms.cell.volume != pytest.approx(5.2**3 / 4, rel=1e-3)
    atoms.calc = MLFFCalculator(potentials / "si", precision="float64", device="cpu")
    pressure = -atoms.get_stress()[:3].mean() / 0.0062415091  # eV/Angstrom^3 to GPa
    assert pressure == pytest.approx(2.0, abs=0.05)


def test_not_converged_shows_in_status_message_and_name(potentials, work, relaxed):
    done = relaxed(potentials / "organic", "ethanol.xyz", "--fmax", "1e-6", "--steps", "3", "--quiet")
    assert done.returncode == 1
    assert "not converged after 3 steps" in done.stderr
    assert "ethanol_relaxed_not_converged.extxyz" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (work / "ethanol_relaxed.extxyz").exists()
    assert len(read(work / "ethanol_relaxed_not_converged.extxyz")) == 9
    again = relaxed(potentials / "organic", "ethanol.xyz", "--fmax", "0.01", "--overwrite")
    assert again.returncode == 0, again.stderr
    assert not (work / "ethanol_relaxed_not_converged.extxyz").exists()
    assert (work / "ethanol_relaxed.extxyz").exists()


@pytest.mark.parametrize("limit", [4096, 9001])
def test_steps_are_kept_when_the_disk_is_full(potentials, work, relaxed, limit):
    done = relaxed(potentials / "organic", "ethanol.xyz", "--fmax", "1e-6", largest_file=limit)
    assert done.returncode == 1
    assert done.stderr.count("mlff: error:") == 1
    assert "cannot write ethanol_relaxed.traj: " in done.stderr
    assert "too large" in done.stderr
    assert "The steps taken are in ethanol_relaxed.traj. Free space" in done.stderr
    assert sorted(path.name for path in work.iterdir()) == ["ethanol.xyz", "ethanol_relaxed.traj"]
    steps = read(work / "ethanol_relaxed.traj", index=":")
    assert len(steps) > 1
    assert np.allclose(steps[0].positions, read(work / "ethanol.xyz").positions)
    energies = [step.get_potential_energy() for step in steps]
    assert energies[-1] < energies[0]
    size = (work / "ethanol_relaxed.traj").stat().st_size
    assert size <= limit
    again = relaxed(potentials / "organic", "ethanol.xyz", "--fmax", "1e-6", "--steps", len(steps), "--overwrite")
    assert "not converged" in again.stderr
    whole = read(work / "ethanol_relaxed.traj", index=":")
    for step, twin in zip(steps, whole, strict=False):
        np.testing.assert_array_equal(step.positions, twin.positions)
        np.testing.assert_array_equal(step.get_forces(), twin.get_forces())


def test_nothing_is_left_where_not_one_step_fits(potentials, work, relaxed):
    done = relaxed(potentials / "organic", "ethanol.xyz", largest_file=300)
    assert done.returncode == 1
    assert "cannot write ethanol_relaxed.traj: " in done.stderr
    assert "steps taken" not in done.stderr
    assert [path.name for path in work.iterdir()] == ["ethanol.xyz"]


def test_steps_are_kept_where_the_structure_cannot_be_written(potentials, work, monkeypatch, capsys):
    def half(path, *_, **__):
        path.write_text("9\nhalf of")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(work)
    monkeypatch.setattr("ase.io.write", half)
    status = run_cli(build_app(), ["relax", str(potentials / "organic"), "ethanol.xyz", "--fmax", "0.005", "--quiet"])
    told = capsys.readouterr().err
    assert status == 1
    assert "cannot write ethanol_relaxed.extxyz: No space left on device. The steps taken are in ethanol" in told
    assert sorted(path.name for path in work.iterdir()) == ["ethanol.xyz", "ethanol_relaxed.traj"]
    assert len(read("ethanol_relaxed.traj", index=":")) > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ethnol.xyz"], "STRUCTURE ethnol.xyz: no such file"),
        (["ethanol.xyz", "--optimizer", "LBFG"], "did you mean 'LBFGS'?"),
        (["ethanol.xyz", "--cell"], "the cell can only be relaxed where all directions are periodic"),
        (["ethanol.xyz", "--pressure", "1"], "acts on the cell"),
        (["ethanol.xyz", "--fmax", "-1"], "fmax is -1.0"),
        (["ethanol.xyz", "--steps", "-5"], "steps is -5"),
        (["ethanol.xyz", "-o", "result.unheard"], "ASE knows no format"),
        (["ethanol.xyz", "-o", "missing/result.xyz"], "there is no folder missing"),
        (["ethanol.xyz", "-o", "ethanol.xyz"], "would be replaced"),
        (["xenon.xyz"], "unknown element Xe (Z=54) at atom 1"),
        (["overlap.xyz"], "atoms 0 and 1 overlap"),
        (["broken.xyz"], "broken.xyz cannot be read by ASE"),
    ],
)
def test_bad_input_is_one_message_and_no_file(potentials, work, words, message, monkeypatch, capsys):
    write(work / "xenon.xyz", Atoms("HXe", [[0, 0, 0], [0, 0, 3]]))
    write(work / "overlap.xyz", Atoms("HH", [[0, 0, 0], [0, 0, 0.01]]))
    (work / "broken.xyz").write_text("three\nnothing\n")
    before = sorted(path.name for path in work.iterdir())
    monkeypatch.chdir(work)
    status = run_cli(build_app(), ["relax", str(potentials / "organic"), *words])
    told = capsys.readouterr().err
    assert status == 1
    assert message in told
    assert "Traceback" not in told
    assert sorted(path.name for path in work.iterdir()) == before


def test_unknown_potential(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    assert run_cli(build_app(), ["relax", "no-such-potential", "ethanol.xyz"]) == 1
    assert "no potential 'no-such-potential'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("--overwrite",)])
def test_files_written_meanwhile_are_kept_and_so_is_the_result(potentials, work, monkeypatch, capsys, words):
    monkeypatch.chdir(work)
    names = ["ethanol_relaxed.extxyz", "ethanol_relaxed.traj"]
    if words:
        for name in names:
            (work / name).write_text("older")
    relaxed = relax._run

    def meet(*arguments, **options):
        for name in names:
            (work / name).write_text("of another program")
        return relaxed(*arguments, **options)

    monkeypatch.setattr(relax, "_run", meet)
    asked = ["relax", str(potentials / "organic"), "ethanol.xyz", "--fmax", "0.005", "--quiet", *words]
    status = run_cli(build_app(), asked)
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "written by another program meanwhile" in said.err
    assert {(work / name).read_text() for name in names} == {"of another program"}
    assert "ethanol_relaxed.rescued1.extxyz" in said.out
    assert np.isfinite(read(work / "ethanol_relaxed.rescued1.extxyz").get_forces()).all()
    assert len(read(work / "ethanol_relaxed.rescued1.traj", ":")) > 1


def test_two_at_once_do_not_write_the_same_files(potentials, work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    with output_lock(work / "ethanol_relaxed.cif"):
        status = run_cli(build_app(), ["relax", str(potentials / "organic"), "ethanol.xyz", "--quiet"])
    assert status == 1
    assert "another process is writing ethanol_relaxed.extxyz" in capsys.readouterr().err
    assert [path.name for path in work.iterdir()] == ["ethanol.xyz"]


def test_numbers_that_are_not_finite(potentials, work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    text = (work / "ethanol.xyz").read_text().split("\n")
    text[4] = "H nan 0.0 0.0"
    (work / "ethanol.xyz").write_text("\n".join(text))
    assert run_cli(build_app(), ["relax", str(potentials / "organic"), "ethanol.xyz", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert said.count("mlff: error:") == 1
    assert "the position of atom 2" in said
    assert [path.name for path in work.iterdir()] == ["ethanol.xyz"]
