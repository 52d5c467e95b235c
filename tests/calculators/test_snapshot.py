"""The structure of a calculation is kept unchanged, whatever happens to the atoms afterwards."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import compare_atoms
from ase.constraints import FixAtoms

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.calculators.snapshot import Snapshot, differences

from .conftest import PairPotential, rattled_slab


class Named(Atoms):
    """A class defined by the user."""


@pytest.mark.parametrize("kind", [Atoms, Named])
def test_atoms_of_the_last_calculation(kind):
    atoms = kind(rattled_slab())
    atoms.set_momenta(np.ones((len(atoms), 3)))
    atoms.info["name"], atoms.constraints = "mine", [FixAtoms([0])]
    atoms.set_celldisp([0.1, 0.0, 0.0])
    atoms.calc = MLFFCalculator(PairPotential(), precision="float64", device="cpu")
    atoms.get_forces()
    before, calculator = atoms.copy(), atoms.calc
    atoms.positions += 1.0
    atoms.set_momenta(np.zeros((len(atoms), 3)), apply_constraint=False)
    atoms.info["name"] = "other"
    last = calculator.atoms
    assert type(last) is kind
    assert last is calculator.atoms
    assert last.calc is None
    assert last == before
    assert set(last.arrays) == set(before.arrays)
    assert all(np.array_equal(last.arrays[name], array) for name, array in before.arrays.items())
    assert last.info["name"] == "mine"
    assert last.constraints[0].index.tolist() == [0]
    np.testing.assert_array_equal(last.get_celldisp(), before.get_celldisp())
    last.positions[:] = 0.0  # a copy, so that the calculator is not affected
    before.calc = calculator
    before.get_forces()
    assert calculator.stats.n_calls == 1


@pytest.mark.parametrize("name", ["positions", "numbers", "cell", "pbc", "initial_charges", "initial_magmoms"])
def test_differences_are_those_that_ase_sees(name):
    atoms = rattled_slab()
    before = Snapshot(atoms)
    assert before.differences(atoms) == []
    changed = copy.deepcopy(atoms)
    if name.startswith("initial"):
        changed.set_array(name, np.full(len(atoms), 0.5))
    elif name == "pbc":
        changed.pbc = True
    else:
        array = changed.cell if name == "cell" else changed.arrays[name]
        array[0] = array[0] + 1
    assert before.differences(changed) == [name] == compare_atoms(atoms, changed)
    assert name in differences(None, atoms)


@pytest.mark.parametrize(("name", "dtype"), [("numbers", np.int32), ("positions", np.float32)])
def test_arrays_of_another_type_are_no_change(name, dtype):
    """Arrays set by other programs may be int32 or float32; equal values are the same structure."""
    atoms = rattled_slab()
    atoms.arrays[name] = atoms.arrays[name].astype(dtype)
    atoms.calc = calculator = MLFFCalculator(PairPotential(), precision="float64", device="cpu")
    atoms.get_potential_energy()
    atoms.get_forces()
    assert calculator.stats.n_calls == 1
    atoms.positions[0, 0] += 0.01
    atoms.get_forces()
    assert calculator.stats.n_calls == 2
