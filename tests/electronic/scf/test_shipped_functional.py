"""What ships gives the energies and forces of its card by name, in PySCF, behind ASE and on the command line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from ase.units import Bohr, Hartree

pytest.importorskip("pyscf")

from mlff_calc.calculators import EGXCCalculator
from mlff_calc.electronic.scf.energy_labels import energy_and_forces
from mlff_calc.electronic.scf.energy_level import EnergyLevel
from mlff_calc.electronic.scf.functional_engine import rks
from mlff_calc.electronic.scf.pyscf_door import build_mole
from mlff_calc.errors import UnknownElementError

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.electronic


@pytest.fixture
def by_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name, found in this checkout."""
    monkeypatch.setattr("mlff_calc.networks.catalogue.shipped_folder", lambda: ROOT / "potentials")
    return "water_egxc"


def test_energies_and_forces_are_those_of_the_card(by_name: str) -> None:
    atoms = read(ROOT / "potentials" / by_name / "example.extxyz")
    atoms.calc = EGXCCalculator(by_name, grid_response=False)
    energy, forces = energy_and_forces(atoms, EnergyLevel.of("b3lyp", "6-31g*", 1), gradient=True)
    assert forces is not None
    assert atoms.get_potential_energy() / Hartree == pytest.approx(-76.38038106, abs=1e-7)  # when it was shipped
    assert abs(atoms.get_potential_energy() / Hartree - energy) < 0.5e-3
    assert np.abs(atoms.get_forces() * (Bohr / Hartree) - forces).mean() < 1e-3
    mf = rks(by_name, build_mole(atoms, "6-31g*"))
    assert mf.kernel(atoms.calc.mean_field.make_rdm1()) == pytest.approx(atoms.get_potential_energy() / Hartree, abs=1e-7)
    atoms.numbers[0] = 16
    with pytest.raises(UnknownElementError):
        atoms.get_potential_energy()


def test_the_command_line_takes_the_name(
    by_name: str, mlff: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    structure = ROOT / "potentials" / by_name / "example.extxyz"
    done = mlff("md", f"functional:{by_name}", "-s", structure, "--steps", "1", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = mlff("potentials", by_name, cwd=tmp_path)
    assert "exchange-correlation functional" in done.stdout
