"""Energies of any level: equal to PySCF's, with forces that are their derivatives, and files that other readers take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr, Hartree

pytest.importorskip("pyscf")

from mlff_calc.datasets import read_structures
from mlff_calc.datasets.energy_files import EnergyFile
from mlff_calc.datasets.labelling import label_structures
from mlff_calc.electronic.scf.energy_labels import EnergyLabels, energy_and_forces
from mlff_calc.electronic.scf.energy_level import EnergyLevel
from mlff_calc.errors import ConvergenceError, DatasetError, OptionError

pytestmark = pytest.mark.electronic


def water(seed: int = 1) -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.03, seed=seed)
    return atoms


@pytest.mark.parametrize(
    ("method", "frozen"), [("b3lyp", False), ("mp2", True), ("ccsd", False), ("ccsd(t)", False), ("ccsd(t)", True)]
)
def test_forces_are_derivatives_of_the_energy(method: str, frozen: bool) -> None:
    level = EnergyLevel.of(method, "sto-3g", 0, frozen_core=frozen)
    atoms, step = water(), 1e-3
    _, forces = energy_and_forces(atoms, level, gradient=True)
    ends = []
    for sign in (1.0, -1.0):
        moved = atoms.copy()
        moved.positions[0, 2] += sign * step
        ends.append(energy_and_forces(moved, level)[0])
    assert forces is not None
    assert forces[0, 2] == pytest.approx((ends[1] - ends[0]) / (2.0 * step / Bohr), abs=5e-6)


def test_correlated_energies_are_those_of_pyscf() -> None:
    from pyscf import cc, gto, scf

    atoms = water()
    mf = scf.RHF(gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="sto-3g", verbose=0)).run()
    solved = cc.CCSD(mf).run()
    assert energy_and_forces(atoms, EnergyLevel.of("CCSD", "sto-3g"))[0] == pytest.approx(solved.e_tot, abs=5e-6)
    triples = solved.e_tot + solved.ccsd_t()
    assert energy_and_forces(atoms, EnergyLevel.of("ccsd(t)", "sto-3g"))[0] == pytest.approx(triples, abs=5e-6)


def test_a_file_is_in_electronvolt_and_names_its_level(tmp_path: Path) -> None:
    level, path = EnergyLevel.of("mp2", "sto-3g"), tmp_path / "a.extxyz"
    kind = EnergyLabels(level, gradient=True)
    radical = Atoms("OH", [[0, 0, 0], [0, 0, 1]])
    summary = label_structures([water(0), radical, water(1)], kind, path)
    assert (summary.labelled, summary.cycles) == (2, None)
    file = EnergyFile(path)
    assert (file.level, [frame.source for frame in file.frames]) == ("mp2/sto-3g, conv_tol 1e-09 Ha", [0, 2])
    assert "odd number of electrons" in dict(file.failures)[1]
    energy, forces = energy_and_forces(water(1), level, gradient=True)
    sample = read_structures(path)[1]  # as recipes of potentials read it
    assert sample.energy == pytest.approx(energy * Hartree, abs=5e-6)
    np.testing.assert_allclose(sample.forces, forces * Hartree / Bohr, atol=1e-6)
    assert label_structures([water(0), radical, water(1)], kind, path, resume=True).computed == 0
    with pytest.raises(DatasetError, match="another level: mp2/sto-3g, conv_tol 1e-09 Ha and ccsd/sto-3g"):
        label_structures([water(0), radical, water(1)], EnergyLabels(EnergyLevel.of("ccsd", "sto-3g")), path, resume=True)
    with pytest.raises(DatasetError, match="holds other structures"):
        label_structures([water(5), radical, water(1)], kind, path, resume=True)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("ccsd", {"density_fit": True}, "forces of density-fitted ccsd are refused"),
        ("b3lyp", {"frozen_core": True}, "frozen core"),
        ("ccsdt", {}, "unknown functional 'ccsdt'"),
    ],
)
def test_levels_that_cannot_be_are_refused(method: str, options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        EnergyLevel.of(method, "sto-3g", **options).check([8, 1], gradient=True)


def test_coupled_clusters_that_do_not_converge_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlff_calc.electronic.scf.energy_labels.CC_CYCLES", 1)
    with pytest.raises(ConvergenceError, match="ccsd of 3 atoms did not converge in 1 iterations"):
        energy_and_forces(water(), EnergyLevel.of("ccsd", "sto-3g"))
