"""`mlff eval` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.potential import Potential, build_potential, evaluate_atoms


def mlff(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mlff_calc.cli.main", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A potential, and data that differ from it by known amounts: 0.1 eV, and 0.02 eV/Angstrom on hydrogen alone."""
    folder = tmp_path_factory.mktemp("eval")
    config = {"backbone": {"name": "equiformer", "cutoff": 4.0, "l_max": 1, "channels": 4, "n_layers": 1}}
    potential: Potential = build_potential(config | {"elements": [1, 8]}, seed=0).eval()
    potential.save(folder / "P")
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    frames = []
    for index in range(4):
        atoms = water.copy()
        atoms.positions += np.random.default_rng(index).normal(scale=0.05, size=(3, 3))
        outputs = evaluate_atoms(potential, [atoms])
        off = np.array([[0.0], [0.02], [0.02]])
        labels = {"energy": float(outputs["energy"][0]) + 0.1, "forces": outputs["forces"] + off}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info["config_type"] = "first" if index == 0 else "rest"
        frames.append(atoms)
    ase.io.write(folder / "data.extxyz", frames)
    bare = [Atoms(atoms.numbers, atoms.positions) for atoms in frames]
    ase.io.write(folder / "bare.extxyz", bare)
    bare[2].symbols[0] = "S"
    ase.io.write(folder / "sulphur.extxyz", bare)
    return folder


def test_json_has_the_known_errors(project: Path) -> None:
    done = mlff("eval", str(project / "P"), str(project / "data.extxyz"), "--json", "--batch-size", "3",
                "--plot", str(project / "parity.png"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["frames"] == 4
    assert report["errors"]["energy"]["mae"] == pytest.approx(100.0, abs=0.01)
    assert report["errors"]["energy_per_atom"]["rmse"] == pytest.approx(100.0 / 3, abs=0.01)
    assert report["errors"]["forces"]["mae"] == pytest.approx(20.0 * 2 / 3, abs=0.01)
    assert report["errors"]["forces"]["count"] == 36
    assert report["forces_by_element"]["H"]["mae"] == pytest.approx(20.0, abs=0.01)
    assert report["forces_by_element"]["O"]["mae"] == pytest.approx(0.0, abs=0.01)
    assert report["by_config_type"]["first"]["forces"]["count"] == 9
    assert report["by_config_type"]["rest"]["energy"]["count"] == 3
    assert "stress" not in report["errors"]
    assert (project / "parity.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bare.extxyz"], "no energies, forces or stresses were found"),
        (["gone.extxyz"], "there is no file"),
        (["data.extxyz", "--energy-key", "enrgy"], "did you mean 'energy'"),
        (["sulphur.extxyz"], "no energies"),
        (["data.extxyz", "--device", "cuda:99"], "cuda:99"),
    ],
)
def test_bad_input_is_one_message(project: Path, arguments: list[str], expected: str) -> None:
    done = mlff("eval", str(project / "P"), str(project / arguments[0]), *arguments[1:])
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("mlff: error:")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
