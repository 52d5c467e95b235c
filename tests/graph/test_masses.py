"""Masses under names that ASE ignores are used or refused, but never dropped silently."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write

from mlff_calc import MLFFCalculator
from mlff_calc.calculators import to_atoms
from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions
from mlff_calc.dynamics.structures import read_structure
from mlff_calc.errors import StructureError
from mlff_calc.graph.masses import with_named_masses


def heavy_water(name="mass", masses=(15.999, 2.014, 2.014)):
    atoms = molecule("H2O")
    atoms.set_array(name, np.array(masses))
    return atoms


@pytest.mark.parametrize("name", ["mass", "Mass", "MASSES", "atomic_masses", "atom_mass"])
def test_spellings(tmp_path, name):
    write(tmp_path / "x.extxyz", heavy_water(name))
    assert read(tmp_path / "x.extxyz").get_masses()[1] == pytest.approx(1.008)  # the mass that ASE itself assigns
    assert read_structure(tmp_path / "x.extxyz", masses=True).get_masses().tolist() == [15.999, 2.014, 2.014]


def test_relaxing_asks_for_no_masses(tmp_path):
    au = heavy_water(masses=(29166.2, 3671.5, 3671.5))
    write(tmp_path / "x.extxyz", au)
    taken = read_structure(tmp_path / "x.extxyz")
    assert not taken.has("masses")
    assert taken.arrays["mass"].tolist() == [29166.2, 3671.5, 3671.5]
    with pytest.raises(StructureError, match="no mass in amu"):
        read_structure(tmp_path / "x.extxyz", masses=True)


def test_atoms_are_not_changed_and_ordinary_masses_pass():
    atoms = heavy_water()
    assert with_named_masses(atoms) is not atoms
    assert not atoms.has("masses")
    plain = heavy_water(masses=molecule("H2O").get_masses())
    assert with_named_masses(plain) is plain
    for tritium, factor in ((3.016, 3.0), (0.113, 0.11), (4.032, 4.0)):
        got = with_named_masses(heavy_water(masses=(16.0, tritium, 1.008))).get_masses()[1]
        assert got / 1.008 == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize(
    ("atoms", "said"),
    [
        (heavy_water(masses=(29166.2, 3671.5, 3671.5)), r"atom 0 \(O\) a mass of 29166.2.*no mass in amu"),
        (heavy_water(masses=(15.999, 0.0, 2.014)), r"atom 1 \(H\) a mass of 0"),
        (heavy_water(masses=(15.999, np.nan, 2.014)), r"atom 1 \(H\) a mass of nan"),
        (heavy_water(masses=np.ones((3, 2))), r"shape \[3, 2\]"),
        (heavy_water(masses=("O", "D", "D")), "not one mass for each atom"),
    ],
)
def test_invalid_masses(atoms, said):
    with pytest.raises(StructureError, match=said):
        with_named_masses(atoms)


def test_columns_that_contradict():
    atoms = heavy_water()
    atoms.set_masses([15.999, 3.016, 3.016])
    with pytest.raises(StructureError, match="'masses' and 'mass' give different masses"):
        with_named_masses(atoms)
    atoms = heavy_water()
    atoms.set_array("Mass", np.array([15.999, 3.016, 3.016]))
    with pytest.raises(StructureError, match="'mass' and 'Mass'"):
        with_named_masses(atoms)


def test_dynamics_refuse_masses_that_they_would_ignore(tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.set_array("mass", np.where(atoms.numbers == 1, 2.014, atoms.get_masses()))
    atoms.calc = MLFFCalculator("ethanol")
    with pytest.raises(StructureError, match="set_masses"):
        MDRun.start(atoms, tmp_path / "run", EnsembleOptions(ensemble="nve"), RunOptions(steps=1))
    assert not (tmp_path / "run").exists()


def test_isotopes_of_pymatgen():
    core = pytest.importorskip("pymatgen.core")
    water = molecule("H2O")
    atoms = to_atoms(core.Molecule(["O", "D", "T"], water.positions))
    assert atoms.get_chemical_symbols() == ["O", "H", "H"]
    assert atoms.get_masses() == pytest.approx([15.999, 2.014, 3.016], abs=1e-3)
    ions = core.Structure(core.Lattice.cubic(4.0), ["Li+", "D-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert to_atoms(ions).get_masses()[1] == pytest.approx(2.014, abs=1e-3)
    assert not to_atoms(core.Molecule(["O", "H", "H"], water.positions)).has("masses")
