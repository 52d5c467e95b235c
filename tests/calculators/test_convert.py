"""Structures of pymatgen are accepted like ASE atoms, and pymatgen is imported only then."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms

from mlff_calc.calculators import MLFFCalculator, to_atoms
from mlff_calc.calculators.checks import IgnoredInputWarning
from mlff_calc.errors import StructureError

from .conftest import PairPotential, rattled_ethanol, rattled_silicon

pymatgen_core = pytest.importorskip("pymatgen.core")


def as_structure(atoms, kind="Structure"):
    return getattr(pymatgen_core, kind)(atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions())


@pytest.mark.parametrize("kind", ["Structure", "IStructure"])
def test_structures(kind):
    atoms = rattled_silicon(1)
    converted = to_atoms(as_structure(atoms, kind))
    assert type(converted) is Atoms
    assert converted.calc is None
    assert converted.pbc.all()
    assert converted.get_chemical_symbols() == atoms.get_chemical_symbols()
    assert np.allclose(converted.cell, atoms.cell)
    assert np.allclose(converted.get_scaled_positions(), atoms.get_scaled_positions())


@pytest.mark.parametrize("kind", ["Molecule", "IMolecule"])
def test_molecules(kind):
    atoms = rattled_ethanol()
    converted = to_atoms(getattr(pymatgen_core, kind)(atoms.get_chemical_symbols(), atoms.positions))
    assert not converted.pbc.any()
    assert np.allclose(converted.positions, atoms.positions)


def test_atoms_come_back_as_they_are():
    atoms = rattled_ethanol()
    assert to_atoms(atoms) is atoms


def test_evaluate_accepts_pymatgen_objects():
    calculator = MLFFCalculator(PairPotential(), precision="float64", device="cpu")
    atoms = rattled_silicon(1)
    expected, results = calculator.evaluate(atoms), calculator.evaluate(as_structure(atoms))
    assert results["energy"] == pytest.approx(expected["energy"], rel=1e-11)
    assert np.allclose(results["stress"], expected["stress"], rtol=1e-9, atol=1e-12)


def molecule_of(symbols, **more):
    return pymatgen_core.Molecule(
        symbols, [[1.2 * index, 0.3 * index**2, 0.0] for index in range(len(symbols))], **more
    )


@pytest.mark.parametrize("kind", ["Molecule", "IMolecule"])
@pytest.mark.parametrize(
    ("symbols", "more", "said"),
    [
        ("OH", {"charge": -1}, {"charge": -1}),
        ("OH", {"spin_multiplicity": 2}, {"multiplicity": 2}),
        ("OO", {"spin_multiplicity": 3}, {"multiplicity": 3}),
        ("OHH", {"charge": 1}, {"charge": 1, "multiplicity": 2}),
        ("OHH", {"charge": 0, "spin_multiplicity": 1}, {}),
        ("OHH", {"properties": {"charge": 0, "source": "a"}, "charge": 2}, {"charge": 2, "source": "a"}),
    ],
)
def test_charge_and_spin_of_molecules_are_carried(kind, symbols, more, said):
    thing = getattr(pymatgen_core, kind).from_dict(molecule_of(list(symbols), **more).as_dict())
    assert to_atoms(thing).info == said


@pytest.mark.parametrize(("charge", "said"), [(1, {"charge": 1}), (-0.5, {"charge": -0.5}), (0, {}), (None, {})])
def test_charges_of_structures_are_carried(charge, said):
    crystal = pymatgen_core.Structure(np.eye(3) * 3.9, ["Si", "Si"], [[0, 0, 0], [0.5, 0.5, 0.5]], charge=charge)
    assert to_atoms(crystal).info == said


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (lambda: molecule_of(["O", "H"], charge=-1), r"info\['charge'\]=-1"),
        (lambda: molecule_of(["O", "H"], spin_multiplicity=2), r"info\['multiplicity'\]=2"),
        (
            lambda: pymatgen_core.Structure(np.eye(3) * 5.4, ["Si"], [[0, 0, 0]], charge=1),
            r"info\['charge'\]=1",
        ),
    ],
    ids=["anion", "radical", "charged cell"],
)
def test_ignored_charge_and_spin_are_warned_of_once(thing, named):
    calculator = MLFFCalculator(PairPotential(), device="cpu")
    with pytest.warns(IgnoredInputWarning, match=f"ignores {named}") as caught:
        calculator.evaluate(thing())
    assert len(caught) == 1
    calculator.evaluate(thing())  # a second warning would be an error here


def test_a_neutral_closed_shell_molecule_causes_no_warning():
    MLFFCalculator(PairPotential(), device="cpu").evaluate(molecule_of(["O", "H", "H"]))  # warnings are errors


def test_disordered_sites_are_refused():
    alloy = pymatgen_core.Structure(np.eye(3) * 3.6, ["Cu", {"Cu": 0.5, "Si": 0.5}], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(StructureError, match="site 1 of the structure is disordered"):
        to_atoms(alloy)


@pytest.mark.parametrize("thing", [None, "silicon.cif", np.zeros((3, 3)), [rattled_ethanol()]])
def test_other_objects_are_refused(thing):
    with pytest.raises(StructureError, match=r"cannot take .* as a structure; give ase\.Atoms"):
        to_atoms(thing)


def test_a_calculator_accepts_pymatgen_objects_in_every_call():
    atoms = rattled_silicon(1)
    calculator = MLFFCalculator(PairPotential(), precision="float64", device="cpu")
    expected = calculator.evaluate(atoms)
    calculator.reset()
    crystal = as_structure(atoms)
    assert calculator.get_potential_energy(crystal) == pytest.approx(expected["energy"], abs=1e-9)
    np.testing.assert_allclose(calculator.get_forces(crystal), expected["forces"], atol=1e-9)
    np.testing.assert_allclose(calculator.get_stress(crystal), expected["stress"], atol=1e-11)
    assert calculator.stats.n_calls == 2  # one for the atoms, and one for the three structures


def test_pymatgen_is_imported_only_for_its_own_objects():
    code = (
        "import sys; from ase import Atoms; from mlff_calc.calculators import MLFFCalculator, to_atoms; "
        "to_atoms(Atoms('H')); sys.exit(any(name.split('.')[0] == 'pymatgen' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
