"""The one-page scripts run unchanged in their short form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ase.build import bulk, molecule
from ase.io import read, write

from mlff_calc.potential import build_potential, list_potentials


@pytest.fixture
def run(script):
    """Function that runs a script with a potential and an output folder."""
    return lambda name, potential, output, *words: script(name, "--potential", potential, "--output", output, *words)


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory) -> Path:
    """Folder of potentials with random weights; the tests below use the shipped ones."""
    folder = tmp_path_factory.mktemp("potentials")
    common = {"scale": 0.02, "repulsion": {"name": "zbl"}}
    backbone = {"name": "equiformer", "channels": 8, "n_layers": 1, "cutoff": 4.0}
    build_potential({**common, "backbone": backbone, "elements": ["H", "C", "O"]}, seed=0).save(folder / "ethanol")
    build_potential(
        {**common, "backbone": {**backbone, "channels": 16, "cutoff": 5.0}, "elements": ["Si"]}, seed=0
    ).save(folder / "si")
    return folder


def shipped(name: str) -> str:
    if name not in {entry.name for entry in list_potentials()}:
        pytest.skip(f"the potential {name!r} does not ship with this checkout yet")
    return name


def test_band(run, random_weights, tmp_path):
    for angle, name in ((180.0, "start.xyz"), (60.0, "end.xyz")):
        atoms = molecule("CH3CH2OH")
        atoms.set_dihedral(0, 1, 2, 3, angle, indices=[3])
        write(tmp_path / name, atoms)
    ends = ("--start", str(tmp_path / "start.xyz"), "--end", str(tmp_path / "end.xyz"))
    text = run("neb.py", random_weights / "ethanol", tmp_path / "new", *ends)
    assert re.search(r"barrier from start to end: -?[\d.]+ meV", text)
    assert len(read(tmp_path / "new" / "neb.extxyz", index=":")) == 5
    assert (tmp_path / "new" / "neb.png").stat().st_size > 1000


def frequencies(text: str) -> dict[str, list[float]]:
    found = re.findall(r"^([GXL]): ([-\d. ]+) THz", text, flags=re.MULTILINE)
    return {name: [float(number) for number in numbers.split()] for name, numbers in found}


def test_phonons_of_both_engines_agree(run, random_weights, tmp_path):
    pytest.importorskip("phonopy")
    results = {}
    for engine in ("phonopy", "ase"):
        text = run("relax_and_phonons.py", random_weights / "si", tmp_path, "--engine", engine)
        results[engine] = frequencies(text)
    assert set(results["ase"]) == {"G", "X", "L"}  # points that are commensurate with the supercell
    for point, values in results["phonopy"].items():
        assert values == pytest.approx(results["ase"][point], abs=5e-3)
    assert results["ase"]["G"].count(0.0) == 3  # translations
    assert (tmp_path / "phonons.png").stat().st_size > 1000
    assert len(read(tmp_path / "relaxed.extxyz")) == 2


def test_ethanol_has_a_barrier(run, tmp_path):
    text = run("neb.py", shipped("ethanol"), tmp_path)
    barrier = float(re.search(r"barrier from start to end: ([\d.]+) meV", text)[1])
    assert 20.0 < barrier < 100.0  # measured: about 50 meV (1.2 kcal/mol)


def test_silicon_is_stable(run, tmp_path):
    text = run("relax_and_phonons.py", shipped("silicon"), tmp_path, "--engine", "ase")
    assert float(re.search(r"lattice FCC\(a=([\d.]+)\)", text)[1]) == pytest.approx(5.43, abs=0.1)
    found = frequencies(text)
    assert min(found["X"] + found["L"]) > 1.0  # no soft modes
    assert max(found["G"]) == pytest.approx(15.5, abs=2.0)  # measured: 15.5 THz


def test_another_crystal(run, random_weights, tmp_path):
    """Both scripts work for another structure, with its lattice, path and formula."""
    write(tmp_path / "sheared.extxyz", bulk("Si", "hcp", a=3.8, c=6.3))
    words = ("--structure", str(tmp_path / "sheared.extxyz"))
    text = run("relax_and_phonons.py", random_weights / "si", tmp_path, *words, "--engine", "ase", "--path", "GMA")
    assert "lattice HEX(" in text
    assert [line[0] for line in text.splitlines() if line.endswith("THz (ase)")] == ["G", "M", "A"]
    assert "bulk modulus" in run("equation_of_state.py", random_weights / "si", tmp_path / "eos.png", *words)


def test_equation_of_state(run, tmp_path):
    text = run("equation_of_state.py", shipped("silicon"), tmp_path / "eos.png")
    assert 5.41 < float(re.search(r"cell +([\d.]+), ", text)[1]) < 5.53
    assert 80.0 < float(re.search(r"bulk modulus +([\d.]+) GPa", text)[1]) < 98.0
    assert (tmp_path / "eos.png").stat().st_size > 1000


def test_crystal_properties(script, tmp_path, monkeypatch):
    """Silicon agrees with its training data: 5.468 Angstrom, C11 153 and C12 56 GPa from cells strained by 2 %."""
    monkeypatch.chdir(tmp_path)
    said = script("crystal_properties.py", "--potential", shipped("silicon"))
    assert float(re.search(r"cell +([\d.]+), ", said)[1]) == pytest.approx(5.468, abs=0.01)
    matrix = [[float(x) for x in line.split()] for line in re.findall(r"^ +(?:-?[\d.]+ *){6}$", said, re.MULTILINE)]
    assert matrix[0][:3] == pytest.approx([153.0, 56.0, 56.0], rel=0.1)
    assert 60.0 < matrix[3][3] < 90.0
    assert 2.5 < float(re.search(r"vacancy +([\d.]+) eV in 63 atoms", said)[1]) < 4.5
    assert not list(tmp_path.iterdir())
