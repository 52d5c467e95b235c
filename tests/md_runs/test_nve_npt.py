"""The scripts for dynamics run unchanged in their short form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from mlff_calc.potential import build_potential


@pytest.fixture(scope="module")
def potentials(tmp_path_factory) -> Path:
    """Folder of a potential with random weights and tiny forces, which suffices to run every line of the scripts."""
    folder = tmp_path_factory.mktemp("potentials")
    backbone = {"name": "equiformer", "channels": 8, "n_layers": 1, "l_max": 1, "cutoff": 4.0}
    for name, elements in (("ethanol", ["H", "C", "O"]), ("silicon", ["Si"])):
        config = {"backbone": backbone, "elements": elements, "scale": 0.02}
        build_potential(config, seed=0).save(folder / name, card="# random", recipe="")
    return folder


def test_nve_ethanol(script, potentials, tmp_path):
    output = tmp_path / "run"
    said = script("nve_ethanol.py", "--potential", potentials / "ethanol", "--output", output)
    assert abs(float(re.search(r"energy: (\S+) \+-", said).group(1))) < 1.0
    assert len(read(output / "trajectory.traj", ":")) == 13
    spectrum = np.loadtxt(output / "spectrum.csv", delimiter=",", skiprows=1)
    assert spectrum[-1, 0] == pytest.approx(16678.2 / 4.0, rel=1e-4)
    assert (output / "report.html").exists()
    assert "mean temperature" in script(
        "nve_ethanol.py", "--potential", potentials / "ethanol", "--output", output, "--resume"
    )


def test_organic_molecule(script, potentials, tmp_path):
    pytest.importorskip("rdkit")
    output = tmp_path / "run"
    said = script("organic_molecule.py", "CCO", "--potential", potentials / "ethanol", "--output", output)
    assert re.search(r"^relaxed C2H6O: -?\d", said, re.MULTILINE)
    mean, most = map(float, re.search(r"RMSD\): (\S+) Angstrom on average, (\S+) at most", said).groups())
    assert 0.0 < mean < most < 3.0
    assert len(read(output / "trajectory.traj", ":")) == 6
    assert "RMSD" in script("organic_molecule.py", "--potential", potentials / "ethanol", "--output", output, "--resume")


def test_npt_silicon(script, potentials, tmp_path):
    output = tmp_path / "run"
    said = script("npt_silicon.py", "--potential", potentials / "silicon", "--output", output)
    printed = float(re.search(r"lattice constant: (\S+) \+-", said).group(1))
    lengths = [np.cbrt(atoms.cell.volume) for atoms in read(output / "trajectory.traj", ":")]
    assert len(lengths) == 3
    assert min(lengths) - 0.01 < printed < max(lengths) + 0.01
    assert len(set(lengths)) == 3  # the cell has changed


def test_deq_reuse(script, tmp_path):
    """The script makes tables and plots for variants of reuse with a small network of random weights."""
    backbone = {
        "name": "deq", "block": "equiformer", "prelude": 0,
        "channels": 4, "heads": 2, "l_max": 1, "cutoff": 4.0, "feedback": 0.1,
    }  # fmt: skip
    config = {"backbone": backbone, "elements": ["H", "C", "O"], "scale": 0.02}
    build_potential(config, seed=0).save(tmp_path / "deq", card="# random", recipe="")
    output = tmp_path / "study"
    printed = script("deq_reuse.py", "--potential", tmp_path / "deq", "--temperatures", 300, "--output", output)
    assert printed.count("meV/atom/ps") == 4
    table = np.genfromtxt(output / "reuse_nve.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert set(table["n_forward"]) == {2.0}
    assert (table["force_rmse"] < 1.0).all()
    for name in ("reuse_drift.png", "reuse_distributions.png"):
        assert (output / name).stat().st_size > 5000
    assert (output / "reuse_reversal.csv").read_text().count("\n") == 3


def test_born_oppenheimer(script, tmp_path):
    pytest.importorskip("pyscf")
    output = tmp_path / "run"
    said = script("born_oppenheimer.py", "--output", output)
    assert re.search(r"start aspc: 7 SCFs; per SCF \d\.\d+ cycles", said)
    assert "meV/atom/ps" in said
    assert len(read(output / "trajectory.traj", ":")) == 4
