"""Paths of caches, temporary folders, exported files and inputs with blanks, quotes and letters beyond ASCII."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import write

from mlff_calc.bench.lammps import lammps_step, measure_lammps
from mlff_calc.cli.lammps_run import parse_variables
from mlff_calc.errors import OptionError, PotentialFileError, SimulationError
from mlff_calc.export import export_potential
from mlff_calc.lammps import build
from mlff_calc.lammps.carried import carry
from mlff_calc.lammps.check import check_lammps
from mlff_calc.lammps.external import run_lammps
from mlff_calc.lammps.mpi import run_lammps as run_program
from mlff_calc.lammps.script import holds_letters
from mlff_calc.potential import build_potential

pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
pytestmark = pytest.mark.lammps

ODD = "it's \"a\"\tœuvre für Ångström, $HOME #1; 東京"
ARGON = {"sigma": 3.4, "epsilon": 0.0104, "rc": 6.0}


@pytest.fixture
def odd(tmp_path, monkeypatch) -> Path:
    """Name the current folder and that of temporary files with nearly all characters a path may contain, but no colon."""
    folder = tmp_path / ODD
    (folder / ODD).mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / ODD))
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """Export a potential of silicon with random weights to LAMMPS."""
    backbone = {"name": "hegnn", "channels": 8, "n_layers": 2, "l_max": 1, "cutoff": 4.0}
    potential = build_potential({"backbone": backbone, "elements": ["Si"], "scale": 0.05}, seed=0)
    path = tmp_path_factory.mktemp("export") / ODD / "dé à.pt"
    path.parent.mkdir()
    export_potential(potential, path, to="lammps", precision="float64")
    return path


def test_check(plugin, exported, odd):
    shutil.copy(exported, odd / "dé à.pt")
    found = check_lammps("dé à.pt", ranks=(1, 2))
    assert len(found) == 6
    assert all(line.agrees for line in found)


def test_bench(plugin, exported, odd):
    shutil.copy(exported, odd / "dé à.pt")
    (row,) = measure_lammps(Path("dé à.pt"), [64], [2], steps=1, paired=False)
    assert (row["n_atoms"], row["n_ranks"]) == (64, 2)
    assert row["pair_ms"] > 0.0


def test_a_file_that_changes_after_it_was_checked(plugin, exported, tmp_path):
    with pytest.raises(PotentialFileError, match="has changed since it was checked"):
        carry(exported, "0" * 64, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(PotentialFileError, match="has changed since it was checked"):
        lammps_step("si64", str(exported), "0" * 64, 1, 1)


def test_the_plugin_is_compiled_tried_and_loaded_from_odd_folders(plugin, odd, monkeypatch):
    made = odd / ODD / build.FILE
    source = odd / "source"
    source.mkdir()
    (source / "tiny.cpp").write_text('#include "lammps.h"\n#include "mpi.h"\nextern "C" int seven() { return 7; }\n')
    linked = odd / "torch"
    linked.symlink_to(build._torch().folder)
    monkeypatch.setattr(build, "_torch", lambda: build.Wheel("2.99", linked))
    monkeypatch.setattr(build, "SOURCES", source)
    build._compile(build._command(build.find_compiler()), made)
    code = f"import ctypes; print(ctypes.CDLL({str(made)!r}).seven())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"7\n"
    shutil.copy(plugin / build.FILE, made)
    build._try(made)
    text = "units metal\nregion b block 0 9 0 9 0 9\ncreate_box 1 b\npair_style mlff\n"
    assert run_program(text, folder=odd, plugins=str(made.parent)).returncode == 0


@pytest.mark.slow
def test_the_whole_build_in_an_odd_cache(odd, monkeypatch):
    monkeypatch.setenv("MLFF_CACHE", ODD)
    file = build.build_plugin()
    assert file.is_absolute()
    assert file.is_relative_to(odd / ODD)
    assert build.plugin_folder() == str(file.parent)


def test_compilers_may_say_anything(tmp_path, monkeypatch):
    script = tmp_path / "cxx"
    script.write_bytes(b"#!/bin/sh\nprintf 'error: \\374mlaut\\n' >&2\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(build.PluginBuildError, match=r"error: .mlaut"):
        build._compile([str(script)], tmp_path / "x.so")


def test_a_colon_in_the_cache_is_refused(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "a:b"))
    with pytest.raises(OptionError, match=r"a:b.*the colon.*set MLFF_CACHE"):
        build.build_plugin()
    assert not (tmp_path / "a:b").exists()
    assert build.plugin_folder() == str(build.SOURCES)
    assert "colon" in caplog.text


def test_a_relative_cache_is_that_of_the_present_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFF_CACHE", "here")
    assert build.build_path().parent == tmp_path / "here" / "lammps"


class TestInputs:
    """`mlff lammps run` with letters that LAMMPS drops from the text of commands."""

    @pytest.fixture(autouse=True)
    def data(self, odd):
        self.atoms = bulk("Ar", cubic=True, a=5.2) * 2
        self.atoms.rattle(0.1, seed=3)
        (odd / "für Ar").mkdir()
        write("atoms.data", self.atoms, format="lammps-data", masses=True)
        shutil.move("atoms.data", "für Ar/ätome.data")
        self.atoms.calc = LennardJones(**ARGON)

    def run(self, text: str, **options):
        path = Path("für Ar/in größe")
        path.write_text("units metal\n" + text, encoding="utf-8")
        return run_lammps(path, LennardJones(**ARGON), **options)

    @pytest.mark.parametrize("line", [
        'read_data "für Ar/ätome.data"  # Größe',
        "read_data 'für Ar/ätome.data'",
        'variable n string \'"für Ar/ätome.data"\'\nread_data ${n}',
        'if "1 == 1" then "read_data \'für Ar/ätome.data\'"',
        'include "für Ar/ü"',
    ])  # fmt: skip
    def test_data_files(self, line):
        Path("für Ar/ü").write_text('read_data "für Ar/ätome.data"\n', encoding="utf-8")
        done = self.run(f"{line}\nthermo_style custom pe\nrun 0\n")
        assert done.thermo["PotEng"] == pytest.approx(self.atoms.get_potential_energy(), abs=1e-5)

    def test_by_a_variable(self):
        values = parse_variables(['file="für Ar/ätome.data"', "n=0"])
        done = self.run("read_data ${file}\nthermo_style custom pe\nrun $n\n", variables=values)
        assert done.thermo["PotEng"] == pytest.approx(self.atoms.get_potential_energy(), abs=1e-5)

    def test_written_paths(self, odd):
        text = (
            'read_data "für Ar/ätome.data"\nvariable x equal step\nfix 1 all nve\n'
            'dump 1 all custom 1 "größe é.dump" id fx fy fz\nfix p all print 1 "ß $x" file "ausgabe für x"\n'
            'run 1\nwrite_data "nach her ü"\nprint """Å\n$x ü""" file "zwei ü"\nlog "ö.log"\nprint "ende ä"\n'
        )
        self.run(text, log=odd / "lög file")
        assert Path("ausgabe für x").read_text(encoding="utf-8").splitlines()[-1] == "ß 1"
        assert Path("zwei ü").read_text(encoding="utf-8") == "Å\n1 ü\n"
        assert Path("nach her ü").is_file()
        assert "ende ä" in Path("ö.log").read_text(encoding="utf-8")
        assert "read_data" in Path("lög file").read_text(encoding="utf-8")
        rows = np.loadtxt(Path("größe é.dump").read_text().split("ITEM: TIMESTEP\n")[1].splitlines()[8:])
        assert rows[np.argsort(rows[:, 0]), 1:] == pytest.approx(self.atoms.get_forces(), abs=1e-5)
        names = [os.fsencode(path.name) for path in odd.iterdir()]
        assert all(name.decode() for name in names)  # LAMMPS itself creates names that are not UTF-8

    def test_signs_that_lammps_knows(self):
        """Typographic dashes and blanks are left to LAMMPS, which knows them."""
        text = 'read_data "für Ar/ätome.data"\nrun\u00a00\nvariable m equal \u22122\nprint "$m" file m\n'
        done = self.run(text)
        assert done.n_evaluations == 1
        assert Path("m").read_text() == "-2\n"

    def test_a_missing_file_is_named_with_all_letters(self):
        with pytest.raises(SimulationError, match=r"file nöwhere é\.data") as caught:
            self.run('read_data "nöwhere é.data"\n')
        assert "mlff_letters" not in str(caught.value)


def test_values_of_variables():
    assert parse_variables(["a=1 2", "b='x y'", 'c="p q" r', "d=it's", 'e="']) == {
        "a": ["1", "2"], "b": "'x y'", "c": ['"p q"', "r"], "d": "it's", "e": '"',
    }  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [
    ("run 0", False), ("a\u00a0b \u22121 “x”", False), ("ü", True), ("u\u0308", True), ("20 °C", True), ("·", True),
])  # fmt: skip
def test_which_letters_need_help(text, expected):
    assert holds_letters(text) is expected
