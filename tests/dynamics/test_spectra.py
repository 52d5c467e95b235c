"""Spectra of runs: peaks at the frequencies of the motion, infrared absorption from dipoles, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read
from ase.io.trajectory import Trajectory

from mlff_calc.dynamics import run_md
from mlff_calc.dynamics.observables import infrared_spectrum
from mlff_calc.dynamics.spectra import spectra_of
from mlff_calc.errors import OptionError, SimulationError

PER_FS = 2.99792458e-5  # oscillations per fs of 1 cm^-1


class Springs(Calculator):
    """Two atoms with opposite charges on harmonic springs of one frequency, and a third pair without charges."""

    implemented_properties = ["energy", "forces", "dipole"]  # noqa: RUF012 - ASE's interface

    def __init__(self, wave_number: float) -> None:
        super().__init__()
        self.k = (2 * np.pi * wave_number * PER_FS / units.fs) ** 2
        self.start: np.ndarray | None = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if self.start is None:
            self.start = self.atoms.positions.copy()
        moved = self.atoms.positions - self.start
        masses = self.atoms.get_masses()[:, None]
        charges = np.array([0.4, -0.4])
        self.results = {
            "energy": float(0.5 * self.k * (masses * moved**2).sum()),
            "forces": -self.k * masses * moved,
            "dipole": charges @ self.atoms.positions,
        }


@pytest.mark.parametrize("wave_number", [300.0, 1650.0, 3700.0])
@pytest.mark.parametrize("interval", [0.5, 2.0])
def test_infrared_peaks_and_areas_do_not_depend_on_the_interval(wave_number: float, interval: float) -> None:
    """Two lines of equal amplitude of the velocity of the dipole have equal areas, at any spacing of frames."""
    times = interval * np.arange(round(8000 / interval))
    dipoles = np.zeros((len(times), 3))
    for axis, nu in enumerate((wave_number, 1000.0)):
        omega = 2 * np.pi * nu * PER_FS
        dipoles[:, axis] = 5.0 + np.sin(omega * times + axis) / omega
    x, y = infrared_spectrum(dipoles, interval)
    one, other = (y[np.abs(x - nu) < 100].sum() for nu in (wave_number, 1000.0))
    assert one / other == pytest.approx(1.0, abs=0.02)
    assert x[np.argmax(np.where(np.abs(x - 1000.0) < 200, 0, y))] == pytest.approx(wave_number, abs=4.0)


def run(folder: Path, calculator: Calculator, atoms: Atoms, **options: object) -> Path:
    timing = {"time": "2 ps", "timestep": 0.5, "traj_interval": 2}
    run_md(atoms, calculator, ensemble="nve", temperature=300, output=folder, **timing, **options)
    return folder


def test_a_run_with_dipoles(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", Springs(1500.0), Atoms("OC", positions=[[0, 0, 0], [2.0, 0, 0]]), seed=1)
    assert read(folder / "trajectory.traj", 5).get_dipole_moment().shape == (3,)
    found = spectra_of(folder)
    assert found.interval_fs == 1.0
    for name in ("power", "infrared"):
        (place, height), *rest = found.peaks(name)
        assert not rest
        assert (place, height) == (pytest.approx(1500.0, abs=10.0), 1.0)
    half = spectra_of(folder, skip_ps=1.0)
    assert half.n_frames == found.n_frames - 1000


def test_frames_that_are_too_far_apart_are_told(tmp_path: Path) -> None:
    for wave_number, interval, expected in ((1500.0, 2.0, False), (1500.0, 9.0, True), (300.0, 9.0, False)):
        omega, times = 2 * np.pi * wave_number * PER_FS, interval * np.arange(200)
        file = tmp_path / f"{wave_number}-{interval}.traj"
        with Trajectory(file, "w") as written:
            for time in times:
                atoms = Atoms("H", positions=[[1.98 + 0.05 * np.sin(omega * time), 0, 0]], cell=[2, 2, 2], pbc=True)
                atoms.wrap()
                atoms.set_velocities([[0.05 * omega * np.cos(omega * time) / units.fs, 0, 0]])
                written.write(atoms)
        found = spectra_of(file, interval_fs=interval)
        assert bool(found.warning) == expected
        if expected:
            assert "frames every 9 fs are too far apart" in found.warning
            assert "what lies above 1853 1/cm" in found.warning


def test_the_command(tmp_path: Path, mlff: Callable[..., CompletedProcess[str]]) -> None:
    folder = run(tmp_path / "run", Springs(1500.0), Atoms("OC", positions=[[0, 0, 0], [2.0, 0, 0]]), seed=1)
    said = mlff("spectrum", str(folder))
    assert said.returncode == 0
    assert "2001 frames every 1 fs" in said.stdout
    assert "infrared: peaks in 1/cm (and height): 1" in said.stdout
    names = {"spectrum_power.csv", "spectrum_infrared.csv", "spectrum.png"}
    assert names <= {file.name for file in folder.iterdir()}
    table = np.loadtxt(folder / "spectrum_infrared.csv", delimiter=",", skiprows=1)
    assert table[table[:, 1].argmax(), 0] == pytest.approx(1500.0, abs=10.0)
    plain = tmp_path / "plain.traj"
    with Trajectory(plain, "w") as file:
        for atoms in read(folder / "trajectory.traj", ":200"):
            atoms.calc = None
            file.write(atoms)
    said = mlff("spectrum", str(plain), "--interval", "1", "--json", "-o", str(tmp_path / "out"))
    assert set(json.loads(said.stdout)["peaks"]) == {"power"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"spectrum_power.csv", "spectrum.png"}


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there is no run or trajectory"):
        spectra_of(tmp_path / "none")
    with pytest.raises(SimulationError, match="not a saved state of a run"):
        spectra_of(tmp_path)
    frames = [Atoms("H", positions=[[0.1 * k, 0, 0]], momenta=[[1.0, 0, 0]]) for k in range(20)]
    with Trajectory(tmp_path / "few.traj", "w") as file:
        for atoms in frames:
            file.write(atoms)
    with pytest.raises(OptionError, match="does not say the time between its frames; give --interval"):
        spectra_of(tmp_path / "few.traj")
    with pytest.raises(OptionError, match="2 frames remain, too few"):
        spectra_of(tmp_path / "few.traj", interval_fs=1.0, skip_ps=0.018)
    (tmp_path / "text.traj").write_text("no trajectory")
    with pytest.raises(OptionError, match="cannot be read as a trajectory"):
        spectra_of(tmp_path / "text.traj", interval_fs=1.0)
    with Trajectory(tmp_path / "two.traj", "w") as file:
        for atoms in [*frames, Atoms("He", momenta=[[1.0, 0, 0]])]:
            file.write(atoms)
    with pytest.raises(OptionError, match="its frames hold several structures"):
        spectra_of(tmp_path / "two.traj", interval_fs=1.0)
    with pytest.raises(OptionError, match="the dipole never changes"):
        infrared_spectrum(np.ones((50, 3)), 1.0)
