"""The i-PI script: the calculator as a client of ASE's server over real sockets."""

from __future__ import annotations

import os
import re
import runpy
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.socketio import SocketIOCalculator
from ase.io import write

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.potential import build_potential

from ..children import Child

SCRIPT = Path(__file__).resolve().parents[2] / "md_runs" / "ipi_socket.py"
SMALL = {"channels": 8, "l_max": 1, "cutoff": 4.0}


@pytest.fixture(scope="module", params=["equiformer", "deq"])
def potential(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("potentials") / request.param
    special = {"n_layers": 1} if request.param == "equiformer" else {"feedback": 0.1}
    config = {"backbone": {"name": request.param, **SMALL, **special}, "elements": ["H", "C", "O", "Si"], "scale": 0.05}
    build_potential(config, seed=0).save(folder, card="# random", recipe="")
    return folder


@pytest.fixture
def client(child) -> Callable[..., Child]:
    """Function that starts the script in a process of its own."""

    def start(*words: object) -> Child:
        def run() -> None:
            sys.argv = [str(SCRIPT), *map(str, words)]
            runpy.run_path(str(SCRIPT), run_name="__main__")

        return child(run)

    return start


def structures() -> dict[str, Atoms]:
    ethanol = molecule("CH3CH2OH")
    ethanol.center(vacuum=5.0)
    crystal = bulk("Si", cubic=True)
    crystal.set_cell(crystal.cell.array @ [[1.0, 0.0, 0.0], [0.05, 0.97, 0.0], [-0.03, 0.06, 1.04]], scale_atoms=True)
    crystal.rattle(0.05, seed=1)
    return {"ethanol": ethanol, "silicon": crystal}


@pytest.mark.parametrize("name", ["ethanol", "silicon"])
def test_a_client_gives_the_results_of_the_calculator(potential, client, tmp_path, name):
    atoms = structures()[name]
    write(tmp_path / "start.extxyz", atoms)
    direct = MLFFCalculator(potential, precision="float64", device="cpu", reuse="none")
    unixsocket = f"test-{uuid.uuid4().hex[:8]}"
    processes = []

    def launch(*_: object, **__: object) -> Child:
        processes.append(
            client(
                "--structure",
                tmp_path / "start.extxyz",
                "--potential",
                potential,
                "--reuse",
                "none",
                "--unixsocket",
                unixsocket,
            )
        )
        return processes[-1]

    with SocketIOCalculator(launch_client=launch, unixsocket=unixsocket, timeout=60) as server:
        atoms.calc = server
        for step in range(3):
            atoms.rattle(0.02, seed=step)
            if atoms.pbc.any():
                atoms.set_cell(atoms.cell.array * 1.002, scale_atoms=True)
            expected = direct.evaluate(atoms)
            # Positions are sent in Bohr, so those of the client differ in the last digits.
            np.testing.assert_allclose(atoms.get_potential_energy(), expected["energy"], rtol=1e-10)
            np.testing.assert_allclose(atoms.get_forces(), expected["forces"], rtol=0, atol=1e-9)
            if atoms.pbc.any():
                np.testing.assert_allclose(atoms.get_stress(), expected["stress"], rtol=0, atol=1e-10)
    assert processes[0].wait(60) == 0, processes[0].stderr
    assert "done after 3 evaluations" in processes[0].stdout


@pytest.mark.parametrize("potential", ["deq"], indirect=True)
def test_the_demo(potential):
    """The demo starts a client by the interpreter, so it runs in a new one itself."""
    command = [sys.executable, str(SCRIPT), "--demo", "--potential", str(potential), "--steps", "4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    said, error = done.stdout, done.stderr
    assert done.returncode == 0, error
    assert float(re.search(r"difference of a force: (\S+)", said).group(1)) < 1e-9
    over, directly = re.search(r"socket (\S+) eV, asked directly (\S+) eV", said).groups()
    assert float(over) == pytest.approx(float(directly), abs=2e-8)


def test_errors_are_one_line(potential, client, tmp_path):
    write(tmp_path / "start.extxyz", structures()["ethanol"])
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    cases = (
        (("--potential", potential), "--structure is needed"),
        (
            ("--structure", tmp_path / "start.extxyz", "--potential", potential, "--port", port),
            "i-PI must be started first",
        ),
        (("--structure", tmp_path / "start.extxyz", "--potential", tmp_path / "none"), "none"),
    )
    for words, said in cases:
        process = client(*words)
        assert process.wait(60) != 0
        assert said in process.stderr
        assert "Traceback" not in process.stderr
